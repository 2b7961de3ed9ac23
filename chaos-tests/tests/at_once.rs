//! What was acknowledged through one node is so through every other one at once, under load too.
//!
//! Ten tags in one push are all there; what was deleted is gone when the 202 arrives.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::client::{Answer, Client};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::image::{Image, MANIFEST};
use chaos_tests::load::Load;
use chaos_tests::report::scenario;
use futures::future::try_join_all;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use trow_raft::Digest;

const REPO: &str = "seen/image";
const TAGS: usize = 10;
const ROUNDS: usize = 16;
/// Clients that push and pull something else meanwhile, so that nodes have a reason to be behind.
const LOAD: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_tags_and_every_delete_show_through_every_node_at_once() {
    scenario("at once", Duration::from_secs(180), run()).await;
}

async fn run() -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(3)).await?;
    let nodes = cluster.clients();
    let token = std::fs::read_to_string(&cluster.admin.token_file)?.trim().to_owned();
    let load = Load::start(LOAD, &nodes);
    let began = Instant::now();
    for round in 0..ROUNDS {
        let turn = Turn { nodes: &nodes, through: &nodes[round % nodes.len()], token: &token };
        turn.take().await.with_context(|| format!("round {round}, through {}", turn.through.node))?;
    }
    let took = began.elapsed().as_secs_f64();
    let acked = load.stop().await.acked().len();
    eprintln!("at once: {ROUNDS} rounds in {took:.1} s beside {acked} acknowledged pushes");
    ensure!(acked > 0, "the load did nothing");
    cluster.done();
    Ok(())
}

/// One round: changes through one node, looks through all.
struct Turn<'a> {
    nodes: &'a [Client],
    through: &'a Client,
    token: &'a str,
}

impl Turn<'_> {
    async fn take(&self) -> Result<()> {
        let image = Image::random(&[5_000]);
        for (digest, content) in &image.blobs {
            let pushed = self.through.push_blob(REPO, *content, digest).await?;
            ensure!(pushed.status == 201, "{pushed}");
            self.everywhere(&format!("blobs/{digest}"), None).await?;
        }
        let tags: Vec<String> = (0..TAGS).map(|tag| format!("{}-{tag}", &image.digest.hex()[..12])).collect();
        self.tag(&image, &tags).await?;
        for tag in &tags {
            self.everywhere(&format!("manifests/{tag}"), Some(&image.digest)).await?;
        }
        self.listed(&tags).await?;

        // Used, so it must stay.
        let used = &image.blobs[1].0;
        let refused = self.delete(&format!("blobs/{used}")).await?;
        ensure!((refused.status, refused.code().as_deref()) == (405, Some("UNSUPPORTED")), "{refused}");
        self.everywhere(&format!("blobs/{used}"), None).await?;

        self.gone(&format!("manifests/{}", tags[0])).await?;
        self.listed(&tags[1..]).await?;
        self.everywhere(&format!("manifests/{}", image.digest), Some(&image.digest)).await?;
        // With a manifest go its tags.
        self.gone(&format!("manifests/{}", image.digest)).await?;
        for tag in &tags {
            self.nowhere(&format!("manifests/{tag}")).await?;
        }
        self.listed(&[]).await?;
        for (digest, _) in &image.blobs {
            self.gone(&format!("blobs/{digest}")).await?;
        }
        Ok(())
    }

    /// One push by digest with all the tags.
    async fn tag(&self, image: &Image, tags: &[String]) -> Result<()> {
        let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
        let path = format!("/v2/{REPO}/manifests/{}?{}", image.digest, query.join("&"));
        let request = self.through.request(Method::PUT, &path).header(CONTENT_TYPE, MANIFEST);
        let answer = self.through.send("PUT manifest", request.body(image.manifest.clone())).await?;
        ensure!(answer.status == 201, "{answer}");
        let moved = answer.headers.get_all("oci-tag").iter().count();
        ensure!(moved == tags.len(), "OCI-Tag names {moved} of {} tags", tags.len());
        Ok(())
    }

    async fn delete(&self, what: &str) -> Result<Answer> {
        let request = self.through.request(Method::DELETE, &format!("/v2/{REPO}/{what}"));
        Ok(self.through.send("DELETE", request.bearer_auth(self.token)).await?)
    }

    /// Deletes it, and asks all nodes the moment the answer is there.
    async fn gone(&self, what: &str) -> Result<()> {
        let answer = self.delete(what).await?;
        ensure!(answer.status == 202, "DELETE {what}: {answer}");
        self.nowhere(what).await
    }

    async fn nowhere(&self, what: &str) -> Result<()> {
        for (node, answer) in self.ask(Method::HEAD, what).await? {
            ensure!(answer.status == 404, "{what} through {node} after its DELETE: {}", answer.status);
        }
        Ok(())
    }

    async fn everywhere(&self, what: &str, digest: Option<&Digest>) -> Result<()> {
        for (node, answer) in self.ask(Method::HEAD, what).await? {
            ensure!(answer.status == 200, "{what} through {node}: {}", answer.status);
            let found = answer.header("docker-content-digest").map(str::to_owned);
            let expected = digest.map(Digest::to_string);
            ensure!(expected.is_none() || found == expected, "{what} through {node} is {found:?}");
        }
        Ok(())
    }

    async fn ask(&self, method: Method, what: &str) -> Result<Vec<(String, Answer)>> {
        let path = format!("/v2/{REPO}/{what}");
        let asking = self.nodes.iter().map(async |node| {
            let answer = node.send(&path, node.request(method.clone(), &path)).await?;
            Ok((node.node.clone(), answer))
        });
        try_join_all(asking).await
    }

    /// Every node lists exactly these tags.
    async fn listed(&self, tags: &[String]) -> Result<()> {
        for (node, answer) in self.ask(Method::GET, "tags/list").await? {
            ensure!(answer.status == 200, "tags through {node}: {answer}");
            let body: serde_json::Value = serde_json::from_slice(&answer.body)?;
            let listed: Vec<String> = serde_json::from_value(body["tags"].clone())?;
            ensure!(listed == tags, "tags through {node}: {listed:?}, not {tags:?}");
        }
        Ok(())
    }
}
