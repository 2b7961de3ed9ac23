//! Starts the built program, and asks it.
#![allow(dead_code, reason = "each test uses its part")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TROW: &str = env!("CARGO_BIN_EXE_trow");
/// Nothing here takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a command printed, and how it ended.
pub struct Run {
    pub out: String,
    pub err: String,
    code: Option<i32>,
    line: String,
}

impl Run {
    /// The run, if it ended with this code.
    pub fn expect(self, code: i32) -> Run {
        assert_eq!(self.code, Some(code), "trow {}\n{}\n{}", self.line, self.out, self.err);
        self
    }

    /// Whether it ended with 0.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }
}

/// The program, which hears of nothing that the environment says of Trow.
pub fn command() -> Command {
    let mut command = Command::new(TROW);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TROW_")) {
        command.env_remove(name);
    }
    command
}

/// Runs `trow` to its end.
pub fn trow(arguments: &[&str]) -> Run {
    trow_with(&[], arguments)
}

/// Runs `trow` to its end, with these variables.
pub fn trow_with(variables: &[(&str, &str)], arguments: &[&str]) -> Run {
    let variables = variables.iter().copied();
    let output = command().envs(variables).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = arguments.join(" ");
    Run { out: text(&output.stdout), err: text(&output.stderr), code: output.status.code(), line }
}

/// The JSON that `trow` prints.
pub fn trow_json(arguments: &[String], code: i32) -> serde_json::Value {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    serde_json::from_str(&trow(&arguments).expect(code).out).unwrap()
}

/// A reply over HTTP/1.1.
pub struct Reply {
    pub status: u16,
    pub body: String,
    head: String,
}

impl Reply {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    }
}

/// One request on a connection of its own.
pub fn ask(address: &str, method: &str, path: &str, token: Option<&str>) -> std::io::Result<Reply> {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    send(address, &format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{authorization}"), "")
}

/// One request with further header lines, each with its end, and a body.
pub fn ask_with(
    address: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<Reply> {
    send(address, &format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}"), body)
}

/// Stores an empty index under a tag.
pub fn put_index(address: &str, repo: &str, tag: &str) -> std::io::Result<Reply> {
    let body = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let kind = "application/vnd.oci.image.index.v1+json";
    let head =
        format!("PUT /v2/{repo}/manifests/{tag} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {kind}\r\n");
    send(address, &head, body)
}

/// Pushes a blob in a single request, again while nobody leads; its digest.
pub fn push_blob(address: &str, repo: &str, content: &str) -> String {
    use sha2::Digest as _;
    let digest = format!("sha256:{}", hex::encode(sha2::Sha256::digest(content)));
    let path = format!("/v2/{repo}/blobs/uploads/?digest={digest}");
    let kind = "application/octet-stream";
    let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {kind}\r\n");
    let reply = until("a blob to be pushed", || {
        let reply = send(address, &head, content).unwrap();
        (reply.status != 503).then_some(reply)
    });
    assert_eq!(reply.status, 201, "{}", reply.body);
    digest
}

fn send(address: &str, head: &str, body: &str) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "{head}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(std::io::ErrorKind::InvalidData)?;
    // The bodies here are small and arrive in one chunk, if chunked at all.
    Ok(Reply { status, body: body.to_owned(), head: head.to_owned() })
}

/// Looks again until `found`, within bounds.
pub fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// `trow serve` on ports of the kernel's choosing; killed when dropped.
pub struct Node {
    child: Child,
    data_dir: String,
    client: String,
    ops: String,
    webhook: Option<String>,
    token: String,
    token_file: String,
    log: PathBuf,
}

impl Node {
    /// Starts it below `dir`, with further flags.
    pub fn serve(dir: &Path, flags: &[&str]) -> Node {
        let data_dir = dir.join("data").to_str().unwrap().to_owned();
        let log = dir.join("log");
        let child = command()
            .args(["--log-format", "json", "serve", "--data-dir", &data_dir, "--listen", "127.0.0.1:0"])
            .args(["--peer-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let started = until("the node to say where it listens", || {
            let text = std::fs::read_to_string(&log).unwrap();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            lines.into_iter().find(|line| line["message"] == "starting")
        });
        let token_file = format!("{data_dir}/cluster/admin.token");
        let token = std::fs::read_to_string(&token_file).unwrap().trim().to_owned();
        let text = |field: &str| started[field].as_str().unwrap().to_owned();
        let webhook = started["webhook"].as_str().map(str::to_owned);
        Node { child, data_dir, client: text("client"), ops: text("ops"), webhook, token, token_file, log }
    }

    pub fn data_dir(&self) -> &str {
        &self.data_dir
    }

    pub fn client(&self) -> &str {
        &self.client
    }

    /// Where its webhook is.
    pub fn webhook(&self) -> &str {
        self.webhook.as_deref().expect("a node with a webhook")
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    pub fn token_file(&self) -> &str {
        &self.token_file
    }

    /// What it logged so far.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// What it logged so far, by lines.
    pub fn log(&self) -> Vec<serde_json::Value> {
        self.log_text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for `/readyz` to say yes.
    pub fn until_ready(&self) {
        until("the node to be ready", || {
            ask(&self.ops, "GET", "/readyz", None).ok().filter(|reply| reply.status == 200)
        });
    }

    pub fn ops_address(&self) -> &str {
        &self.ops
    }

    pub fn ops(&self, path: &str) -> Reply {
        ask(&self.ops, "GET", path, None).unwrap()
    }

    /// Asks the administration.
    pub fn admin(&self, method: &str, path: &str, token: Option<&str>) -> Reply {
        ask(&self.client, method, &format!("/-/trow/v1/{path}"), token).unwrap()
    }

    /// A command with the flags that name this node.
    pub fn with_server(&self, arguments: &[&str]) -> Vec<String> {
        let server = ["--server", &format!("http://{}", self.client), "--token-file", &self.token_file];
        arguments.iter().chain(&server).map(|word| (*word).to_owned()).collect()
    }

    /// Runs a command against this node.
    pub fn cli(&self, arguments: &[&str]) -> Run {
        let all = self.with_server(arguments);
        trow(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Sends SIGTERM; it must end with 0 within `limit`.
    pub fn terminate(mut self, limit: Duration) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let began = Instant::now();
        let status = until("the node to end", || self.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0));
        assert!(began.elapsed() <= limit, "it took {:?}", began.elapsed());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
