//! Three nodes, and what every client's test asks of them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::metrics;
use chaos_tests::report::scenario;
use chaos_tests::require;
use chaos_tests::tool::Tool;
use reqwest::Method;
use trow_raft::Digest;

/// A name under which the registry is itself, for clients that are told of it as a mirror.
pub const NAME: &str = "registry.example";

/// The running nodes.
pub struct Site {
    pub cluster: Cluster,
}

/// Runs a client's test against three nodes, if the programs it takes are installed.
pub async fn against_three_nodes(
    name: &str,
    programs: &[&str],
    run: impl AsyncFnOnce(&mut Site) -> Result<()>,
) {
    against_prepared_nodes(name, programs, |_| Ok(()), run).await;
}

/// The same with something done to the nodes before they start.
pub async fn against_prepared_nodes(
    name: &str,
    programs: &[&str],
    prepare: impl FnOnce(&mut Cluster) -> Result<()>,
    run: impl AsyncFnOnce(&mut Site) -> Result<()>,
) {
    if !require::tools(programs) {
        return;
    }
    let work = async {
        let plan = Plan::of(3).config(&format!("[server]\nhostnames = [\"{NAME}\"]\n"));
        let mut cluster = Cluster::prepare(plan).await?;
        prepare(&mut cluster)?;
        cluster.start_all().await?;
        let mut site = Site { cluster };
        run(&mut site).await?;
        site.cluster.done();
        Ok(())
    };
    scenario(name, Duration::from_secs(240), work).await;
}

impl Site {
    /// The node to push through, `host:port`.
    pub fn push(&self) -> String {
        self.cluster.nodes[0].client.clone()
    }

    /// The node to pull through, `host:port`.
    pub fn pull(&self) -> String {
        self.cluster.nodes[1].client.clone()
    }

    /// The node to delete through, `host:port`.
    pub fn delete(&self) -> String {
        self.cluster.nodes[2].client.clone()
    }

    /// Where clients are at home and files may be put.
    pub fn dir(&self) -> &Path {
        self.cluster.root()
    }

    /// A client, which says its version.
    pub async fn tool(&self, name: &str, version: &[&str]) -> Result<Tool> {
        let tool = Tool::new(name, self.dir())?;
        tool.version(version).await?;
        Ok(tool)
    }

    /// The admin token, the password of `admin`.
    pub fn token(&self) -> Result<String> {
        let token =
            std::fs::read_to_string(&self.cluster.admin.token_file).context("read the admin token")?;
        Ok(token.trim().to_owned())
    }

    /// The bytes that every node has under `reference`: those of `digest`, if one is expected.
    pub async fn manifest(&self, repo: &str, reference: &str, digest: Option<&Digest>) -> Result<Bytes> {
        let mut found = Bytes::new();
        for node in &self.cluster.nodes {
            let answer = node.client().manifest(repo, reference).await?;
            ensure!(answer.status == 200, "{repo}:{reference} through {}: {answer}", node.name);
            let actual = Digest::sha256(&answer.body);
            ensure!(
                answer.header("docker-content-digest") == Some(&actual.to_string())
                    && digest.is_none_or(|digest| *digest == actual),
                "{repo}:{reference} through {} is {actual} instead of {digest:?}",
                node.name
            );
            found = answer.body;
        }
        Ok(found)
    }

    /// That no node has a manifest under `reference` any more.
    pub async fn gone(&self, repo: &str, reference: &str) -> Result<()> {
        for node in &self.cluster.nodes {
            let answer = node.client().manifest(repo, reference).await?;
            ensure!(
                answer.status == 404 && answer.code().as_deref() == Some("MANIFEST_UNKNOWN"),
                "{repo}:{reference} was deleted, and {} answers {}",
                node.name,
                answer.status
            );
        }
        Ok(())
    }

    /// Deletes a manifest, for clients that cannot, and sees that it is gone.
    pub async fn remove(&self, repo: &str, digest: &Digest) -> Result<()> {
        let node = self.cluster.nodes[2].client();
        let request = node.request(Method::DELETE, &format!("/v2/{repo}/manifests/{digest}"));
        let answer = node.send("DELETE manifest", request.basic_auth("admin", Some(self.token()?))).await?;
        ensure!(answer.status == 202, "DELETE of {repo}@{digest}: {answer}");
        self.gone(repo, &digest.to_string()).await
    }

    /// How many blobs were mounted through the node to pull through, and how many requests of uploads it
    /// answered in any other way.
    pub async fn mounted(&self) -> Result<(f64, f64)> {
        let node = &self.cluster.nodes[1];
        let count = async |labels: &[&str]| metrics::read(node, "trow_http_requests_total", labels).await;
        let mounted = count(&["route=\"uploads\"", "code=\"201\""]).await?;
        Ok((mounted, count(&["route=\"uploads\""]).await? - mounted + count(&["route=\"upload\""]).await?))
    }
}

/// A digest as a client printed it, white space around it or not.
pub fn digest(text: &str) -> Result<Digest> {
    text.trim().parse().with_context(|| format!("{text:?} is no digest"))
}

/// The words of a list, sorted, one a line.
pub fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    lines
}
