//! A cluster of `trow dev` on loopback whose nodes can be killed, paused and started again.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use trow_raft::Digest;

const TROW: &str = env!("CARGO_BIN_EXE_trow");
/// Nothing here takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Dev {
    dev: Child,
    dir: tempfile::TempDir,
    nodes: Vec<Node>,
    restarted: Vec<Child>,
    http: reqwest::Client,
}

struct Node {
    pid: i32,
    client: String,
    data_dir: PathBuf,
    serve: Vec<String>,
}

/// A reply, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub location: String,
    pub range: String,
    pub body: bytes::Bytes,
}

/// A base port whose nodes' ports are free now; tests of one process begin at different places.
fn base_port(nodes: u16) -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let base = 20_000 + (std::process::id() as u16 % 97) * 100 + turn * 50 % 10_000;
        if (0..nodes).all(|node| (0..4).all(|port| free(base + 10 * node + port))) {
            return base;
        }
    }
}

impl Dev {
    /// Starts `nodes` nodes and waits until all are ready.
    pub fn start(nodes: u16) -> Dev {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(TROW);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TROW_")) {
            command.env_remove(name);
        }
        let mut dev = command
            .args(["dev", "--output", "json", "--nodes", &nodes.to_string()])
            .args(["--base-port", &base_port(nodes).to_string(), "--data-dir"])
            .arg(dir.path().join("dev"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(dir.path().join("dev.log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(dev.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            panic!("{}", std::fs::read_to_string(dir.path().join("dev.log")).unwrap_or_default())
        });
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let nodes = said["nodes"].as_array().unwrap().iter().map(|node| Node {
            pid: node["pid"].as_i64().unwrap() as i32,
            client: text(&node["client"]),
            data_dir: text(&node["data_dir"]).into(),
            serve: node["serve_command"].as_array().unwrap().iter().map(text).collect(),
        });
        let nodes = nodes.collect();
        // Chosen before any client is made, as the program does.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Dev { dev, dir, nodes, restarted: vec![], http }
    }

    fn signal(&self, node: usize, signal: Signal) {
        kill_process(Pid::from_raw(self.nodes[node - 1].pid).unwrap(), signal).unwrap();
    }

    pub fn kill(&self, node: usize) {
        self.signal(node, Signal::KILL);
    }

    pub fn pause(&self, node: usize) {
        self.signal(node, Signal::STOP);
    }

    pub fn resume(&self, node: usize) {
        self.signal(node, Signal::CONT);
    }

    /// Starts a killed node again, as it was.
    pub fn restart(&mut self, node: usize) {
        let serve = &self.nodes[node - 1].serve;
        let log = std::fs::File::create(self.dir.path().join(format!("restarted-{node}.log"))).unwrap();
        let mut command = Command::new(&serve[0]);
        command.args(&serve[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap();
        self.nodes[node - 1].pid = child.id() as i32;
        self.restarted.push(child);
    }

    pub async fn ask(&self, node: usize, method: &str, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        let url = format!("http://{}{path}", self.nodes[node - 1].client);
        let request = self.http.request(method.parse().unwrap(), url).body(body);
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
        self.http.get(format!("http://{}{path}", self.nodes[node - 1].client)).send().await.unwrap()
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

    /// Runs a command of the CLI against `node`; its output.
    pub fn cli(&self, node: usize, arguments: &[&str]) -> String {
        let token = self.dir.path().join("dev/cluster/admin.token");
        let server = format!("http://{}", self.nodes[node - 1].client);
        let mut command = Command::new(TROW);
        command.args(arguments).args(["--server", &server, "--token-file"]).arg(token);
        let done = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(done.status.success(), "{arguments:?}: {}{}", text(&done.stdout), text(&done.stderr));
        text(&done.stdout)
    }

    pub fn settle(&self, node: usize) {
        self.cli(node, &["cluster", "wait", "--for", "settled", "--timeout", "90s"]);
    }

    /// The blob's file on the node.
    pub fn file(&self, node: usize, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.nodes[node - 1].data_dir.join("blobs/sha256").join(&hex[..2]).join(hex)
    }

    /// The nodes whose data directory has the blob.
    pub fn holders(&self, digest: &Digest) -> Vec<usize> {
        (1..=self.nodes.len()).filter(|node| self.file(*node, digest).exists()).collect()
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

impl Drop for Dev {
    fn drop(&mut self) {
        for node in &self.nodes {
            if let Some(pid) = Pid::from_raw(node.pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        for child in self.restarted.iter_mut().chain([&mut self.dev]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
