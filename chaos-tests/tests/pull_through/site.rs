//! Three nodes and the registry behind them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use chaos_tests::client::{Answer, Client};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::image::Image;
use chaos_tests::process::Node;
use chaos_tests::report::scenario;
use chaos_tests::upstream::Upstream;
use reqwest::Method;
use trow_raft::Digest;

/// Nothing here takes longer, however busy the machine is.
pub const LIMIT: Duration = Duration::from_secs(60);
/// A repository of the upstream.
pub const REPO: &str = "library/app";
/// What it is called here.
pub const HERE: &str = "f/docker.io/library/app";

/// Whatever else is on the machine's disk, what is pulled through is kept.
pub const KEEPS: &str = "cache.high = \"100%\"\ncache.low = \"99%\"\n";

/// Three nodes for which the upstream is docker.io.
pub struct Site {
    pub cluster: Cluster,
    pub upstream: Upstream,
}

/// Runs a scenario; `config` goes on after the settings of docker.io.
pub async fn through_three_nodes(name: &str, config: &str, run: impl AsyncFnOnce(&mut Site) -> Result<()>) {
    let work = async {
        let upstream = Upstream::start().await?;
        let config = format!("{KEEPS}{}{config}", upstream.settings("docker.io"));
        let cluster = Cluster::start(Plan::of(3).config(&config)).await?;
        let mut site = Site { cluster, upstream };
        run(&mut site).await?;
        site.cluster.done();
        Ok(())
    };
    scenario(name, Duration::from_secs(240), work).await;
}

impl Site {
    /// A client of each node.
    pub fn clients(&mut self) -> Vec<Client> {
        self.cluster.clients()
    }

    /// How often the upstream was asked for what an image is made of, by the path of each.
    pub fn fetched(&self, repo: &str, image: &Image) -> Vec<(String, usize)> {
        let manifest = format!("/v2/{repo}/manifests/{}", image.digest);
        let blobs = image.blobs.iter().map(|(digest, _)| format!("/v2/{repo}/blobs/{digest}"));
        let paths = std::iter::once(manifest).chain(blobs);
        paths.map(|path| (path.clone(), self.upstream.asked("GET", &path))).collect()
    }

    /// That the upstream was asked for each part of the image exactly once.
    pub fn fetched_once(&self, repo: &str, image: &Image) -> Result<()> {
        for (path, times) in self.fetched(repo, image) {
            ensure!(times == 1, "GET {path} came {times} times:\n{}", self.asked());
        }
        Ok(())
    }

    /// Every request that the upstream got, a line each.
    pub fn asked(&self) -> String {
        let lines: Vec<String> = self.upstream.seen().iter().map(ToString::to_string).collect();
        lines.join("\n")
    }
}

/// HEAD of a manifest.
pub async fn head(client: &Client, repo: &str, reference: &str) -> Result<Answer> {
    let request = client.request(Method::HEAD, &format!("/v2/{repo}/manifests/{reference}"));
    Ok(client.send("HEAD manifest", request).await?)
}

/// Pulls an image by its tag as containerd does: HEAD, the manifest by digest, each blob.
pub async fn pull(client: &Client, repo: &str, tag: &str, image: &Image) -> Result<()> {
    let answer = head(client, repo, tag).await?;
    ensure!(answer.status == 200, "HEAD of {tag} through {}: {answer}", client.node);
    let digest = answer.header("docker-content-digest").context("HEAD without a digest")?.to_owned();
    ensure!(
        digest == image.digest.to_string(),
        "{tag} through {} is {digest}, not {}",
        client.node,
        image.digest
    );
    let length = answer.header("content-length").context("HEAD without a length")?;
    ensure!(length == image.manifest.len().to_string(), "HEAD says {length} bytes");
    let answer = client.manifest(repo, &digest).await?;
    ensure!(
        answer.status == 200 && answer.body == image.manifest,
        "GET of {digest} through {}: {answer}",
        client.node
    );
    for (digest, content) in &image.blobs {
        let pulled = client.pull_blob(repo, digest).await?;
        ensure!(
            (pulled.status, pulled.len, pulled.digest) == (200, content.len(), *digest),
            "the blob {digest} through {}: {pulled:?}",
            client.node
        );
    }
    Ok(())
}

/// Waits until it holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + LIMIT;
    while !holds().await? {
        ensure!(Instant::now() < until, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The nodes that hold a blob as a file.
pub fn holders(nodes: &[Node], digest: &Digest) -> Vec<String> {
    let hex = digest.hex();
    nodes.iter().filter(|node| node.held().contains(&hex)).map(|node| node.name.clone()).collect()
}

/// An index of images that has these platforms.
pub fn index(images: &[(&Image, &str)]) -> Bytes {
    let entry = |(image, architecture): &(&Image, &str)| {
        serde_json::json!({
            "mediaType": chaos_tests::image::MANIFEST, "digest": image.digest.to_string(),
            "size": image.manifest.len(), "platform": {"os": "linux", "architecture": architecture},
        })
    };
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": chaos_tests::layout::INDEX,
        "manifests": images.iter().map(entry).collect::<Vec<_>>(),
    });
    index.to_string().into()
}
