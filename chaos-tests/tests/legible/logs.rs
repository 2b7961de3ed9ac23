//! A request's id is in the logs of every node that took part, and each request is one line.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::client::Client;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::content::Content;
use chaos_tests::image::{Image, MANIFEST};
use chaos_tests::process::Node;
use chaos_tests::report::scenario;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

const REPO: &str = "logged/image";
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_request_id_is_in_the_log_of_every_node_that_took_part() {
    scenario("logs", Duration::from_secs(120), run()).await;
}

async fn run() -> Result<()> {
    let plan = Plan::of(3).config("replication.factor = 1\n").env("TROW_LOG", "debug");
    let mut cluster = Cluster::start(plan.env("TROW_LOG_FORMAT", "json")).await?;
    let nodes = cluster.clients();
    let content = Content::random(100_000);
    let digest = content.digest();
    ensure!(nodes[0].push_blob(REPO, content, &digest).await?.status == 201, "the push");
    cluster.settled(LIMIT).await?;

    // A pull through a node that has to ask the one that holds the blob.
    let holds = |node: &Node| node.held().contains(&digest.hex());
    let holder = cluster.nodes.iter().position(holds).context("nobody holds the blob")?;
    let asked = (holder + 1) % 3;
    let pull = nodes[asked].request(Method::GET, &format!("/v2/{REPO}/blobs/{digest}"));
    ensure!(with_id(&nodes[asked], pull, "pull-1").await? == 200, "the pull");
    took_part(&cluster, "pull-1", &[asked, holder]).await?;
    let line = access_line(&cluster.nodes[asked], "pull-1").await?;
    let span = &line["span"];
    ensure!(line["level"] == "INFO" && line["status"] == 200 && line["sent"] == 100_000, "{line}");
    ensure!(line["ms"].is_u64() && span["method"] == "GET" && span["caller"] == "anonymous", "{line}");
    ensure!(span["path"] == format!("/v2/{REPO}/blobs/{digest}"), "{line}");

    // A push through a node that has to hand the change on to the leader.
    let leader = cluster.leader(LIMIT).await?;
    let asked = (leader + 1) % 3;
    let image = Image::random(&[]);
    for (digest, content) in &image.blobs {
        ensure!(nodes[asked].push_blob(REPO, *content, digest).await?.status == 201, "the configuration");
    }
    let push = nodes[asked].request(Method::PUT, &format!("/v2/{REPO}/manifests/v1"));
    let push = push.header(CONTENT_TYPE, MANIFEST).body(image.manifest.clone());
    ensure!(with_id(&nodes[asked], push, "push-1").await? == 201, "the manifest");
    took_part(&cluster, "push-1", &[asked, leader]).await?;

    // The administrator's token, and the tickets of uploads, are in no log.
    let post = nodes[asked].request(Method::POST, &format!("/v2/{REPO}/blobs/uploads/"));
    let begun = nodes[asked].send("POST", post).await?;
    let location = begun.header("location").context("a Location")?.to_owned();
    let ticket = location.split_once("_state=").context("a Location without a ticket")?.1.to_owned();
    let elsewhere = &nodes[(asked + 1) % 3];
    let patch = elsewhere.request(Method::PATCH, &location).body("some bytes");
    ensure!(with_id(elsewhere, patch, "patch-1").await? == 202, "the chunk");
    access_line(&cluster.nodes[(asked + 1) % 3], "patch-1").await?;
    let token = std::fs::read_to_string(&cluster.admin.token_file)?;
    let gone = nodes[asked].request(Method::DELETE, &format!("/v2/{REPO}/manifests/v1"));
    ensure!(with_id(&nodes[asked], gone.bearer_auth(token.trim()), "delete-1").await? == 202, "the delete");
    let line = access_line(&cluster.nodes[asked], "delete-1").await?;
    ensure!(line["span"]["caller"] == "admin", "{line}");
    for node in &cluster.nodes {
        let log = std::fs::read_to_string(&node.log)?;
        ensure!(!log.contains(token.trim()), "{} logged the admin token", node.name);
        ensure!(!log.contains("digest=sha256") && !log.contains("_state="), "{} logged a query", node.name);
        ensure!(!log.contains(&ticket), "{} logged the ticket of an upload", node.name);
    }
    cluster.done();
    Ok(())
}

/// Sends with an id, which must come back; the status.
async fn with_id(client: &Client, request: RequestBuilder, id: &str) -> Result<u16> {
    let answer = client.send(id, request.header("x-request-id", id)).await?;
    ensure!(answer.header("x-request-id") == Some(id), "{id}: another id came back");
    Ok(answer.status)
}

/// The lines of a node's log that were written for the request.
fn lines_of(node: &Node, id: &str) -> Result<Vec<Value>> {
    let log = std::fs::read_to_string(&node.log)?;
    // The last line may be half written.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines: Vec<Value> = whole
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("{}: not JSON: {line}", node.name)))
        .collect::<Result<_>>()?;
    let has_id = |line: &Value| {
        let spans = line["spans"].as_array();
        spans.is_some_and(|spans| spans.iter().any(|span| span["request_id"] == id))
    };
    Ok(lines.into_iter().filter(has_id).collect())
}

/// Waits until each of the nodes has logged something for the request.
async fn took_part(cluster: &Cluster, id: &str, nodes: &[usize]) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(10);
    for index in nodes {
        let node = &cluster.nodes[*index];
        while lines_of(node, id)?.is_empty() {
            ensure!(Instant::now() < until, "{} took part in {id} and did not log it", node.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// The one line of the request itself.
async fn access_line(node: &Node, id: &str) -> Result<Value> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let lines = lines_of(node, id)?;
        let mut found: Vec<Value> =
            lines.into_iter().filter(|line| line["target"] == "trow::access").collect();
        match found.pop() {
            Some(line) if found.is_empty() => return Ok(line),
            Some(_) => anyhow::bail!("{id} has several lines"),
            None => ensure!(Instant::now() < until, "{id} has no line"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
