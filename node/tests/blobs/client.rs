//! What a client does with the nodes of `trow dev`, and what is on their disks afterwards.
//!
//! Nodes are counted from 1, as their names are.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use trow_raft::Digest;

use crate::dev::{Dev, Restarted};

/// Nothing here takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Nodes {
    restarted: Vec<Restarted>,
    dev: Dev,
    http: reqwest::Client,
    /// Goes last.
    _dir: tempfile::TempDir,
}

/// A reply, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub location: String,
    pub range: String,
    pub body: bytes::Bytes,
}

impl Nodes {
    /// Starts `nodes` nodes and waits until all are ready.
    pub fn start(nodes: u16) -> Nodes {
        let dir = tempfile::tempdir().unwrap();
        let dev = Dev::start(dir.path(), nodes);
        // Chosen before any client is made, as the program does.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Nodes { restarted: vec![], dev, http, _dir: dir }
    }

    pub fn kill(&self, node: usize) {
        self.dev.kill(node - 1);
    }

    pub fn pause(&self, node: usize) {
        self.dev.pause(node - 1);
    }

    pub fn resume(&self, node: usize) {
        self.dev.resume(node - 1);
    }

    /// Starts a killed node again, as it was.
    pub fn restart(&mut self, node: usize) {
        self.restarted.push(self.dev.restart(node - 1));
    }

    fn url(&self, node: usize, path: &str) -> String {
        format!("http://{}{path}", self.dev.field(node - 1, "client"))
    }

    pub async fn ask(&self, node: usize, method: &str, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        let request = self.http.request(method.parse().unwrap(), self.url(node, path)).body(body);
        let reply = request.send().await.unwrap();
        let header = |name: &str| {
            let value = reply.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let (status, location, range) = (reply.status().as_u16(), header("location"), header("range"));
        Reply { status, location, range, body: reply.bytes().await.unwrap() }
    }

    /// A reply whose body is read by the caller.
    pub async fn get(&self, node: usize, path: &str) -> reqwest::Response {
        self.http.get(self.url(node, path)).send().await.unwrap()
    }

    /// Pushes through `node`; the blob's digest.
    pub async fn push(&self, node: usize, bytes: &bytes::Bytes) -> Digest {
        let digest = Digest::sha256(bytes);
        let begun = self.ask(node, "POST", "/v2/test/blobs/uploads/", "").await;
        let sent = self.ask(node, "PATCH", &begun.location, bytes.clone()).await;
        let done = self.ask(node, "PUT", &format!("{}&digest={digest}", sent.location), "").await;
        assert_eq!(done.status, 201, "{done:?}");
        digest
    }

    pub fn settle(&self, node: usize) {
        self.dev.cli(node - 1, &["cluster", "wait", "--for", "settled", "--timeout", "120s"]).expect(0);
    }

    /// The blob's file on the node.
    pub fn file(&self, node: usize, digest: &Digest) -> PathBuf {
        let (data_dir, hex) = (PathBuf::from(self.dev.field(node - 1, "data_dir")), digest.hex());
        data_dir.join("blobs/sha256").join(&hex[..2]).join(hex)
    }

    /// The nodes whose data directory has the blob.
    pub fn holders(&self, digest: &Digest) -> Vec<usize> {
        (1..=self.dev.nodes.len()).filter(|node| self.file(*node, digest).exists()).collect()
    }

    /// Looks again until `holds`, within bounds.
    pub async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < end, "waited in vain for {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
