//! One node of `trow dev` while it runs.

use std::fs::{File, OpenOptions};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::plan::{PlannedNode, WITHHELD};
use crate::cli::{Failure, note};

/// A node ends within 30 s of SIGTERM; one that does not is killed.
const STOP: Duration = Duration::from_secs(35);

/// A started node.
pub(super) struct Process {
    planned: PlannedNode,
    child: Child,
    pid: u32,
    node_id: Option<String>,
    log_began: u64,
    reported: bool,
}

impl Process {
    /// Starts the node; its output is appended to its log.
    pub(super) fn start(planned: &PlannedNode) -> Result<Process, Failure> {
        let failed = |what: &str, error: std::io::Error| {
            Failure::Failed(format!("start {}: {what}: {error}", planned.name))
        };
        let open = || OpenOptions::new().create(true).append(true).open(&planned.log);
        let log = open().map_err(|error| failed("open its log", error))?;
        let log_began = log.metadata().map(|meta| meta.len()).unwrap_or(0);
        let (program, arguments) = planned
            .serve_command
            .split_first()
            .ok_or_else(|| Failure::Failed(format!("start {}: no command", planned.name)))?;
        let both = || log.try_clone().map(Stdio::from).map_err(|error| failed("open its log", error));
        let mut command = Command::new(program);
        for name in WITHHELD {
            command.env_remove(name);
        }
        let child = command
            .args(arguments)
            .arg("--stop-with-parent")
            .stdin(Stdio::null())
            .stdout(both()?)
            .stderr(both()?)
            .spawn()
            .map_err(|error| failed(program, error))?;
        let pid = child.id().unwrap_or_default();
        Ok(Process { planned: planned.clone(), child, pid, node_id: None, log_began, reported: false })
    }

    pub(super) fn planned(&self) -> &PlannedNode {
        &self.planned
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Its id, once it said so.
    pub(super) fn node_id(&self) -> &str {
        self.node_id.as_deref().unwrap_or("-")
    }

    /// As `dev --output json` shows it.
    pub(super) fn document(&self) -> serde_json::Value {
        let PlannedNode { name, client, peer, ops, webhook, data_dir, serve_command, .. } = &self.planned;
        serde_json::json!({
            "name": name,
            "node_id": self.node_id,
            "pid": self.pid,
            "client": client.to_string(),
            "peer": peer.to_string(),
            "ops": ops.to_string(),
            "webhook": webhook.to_string(),
            "data_dir": data_dir,
            "serve_command": serve_command,
        })
    }

    /// How it ended, the first time it is asked after that.
    pub(super) fn ended_now(&mut self) -> Option<ExitStatus> {
        if self.reported {
            return None;
        }
        let status = self.child.try_wait().ok().flatten();
        self.reported = status.is_some();
        status
    }

    /// # Errors
    /// It has ended; with what it said last.
    pub(super) fn must_live(&mut self) -> Result<(), Failure> {
        let Some(status) = self.ended_now() else { return Ok(()) };
        let said = self.last_words();
        let why = format!("{} has ended ({status}) before it was ready: {said}", self.planned.name);
        Err(if status.code() == Some(2) { Failure::Usage(why) } else { Failure::Failed(why) })
    }

    /// The end of what it logged in this run.
    fn last_words(&self) -> String {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let mut text = Vec::new();
        let read = File::open(&self.planned.log).and_then(|mut log| {
            let end = log.metadata()?.len();
            log.seek(SeekFrom::Start(self.log_began.max(end.saturating_sub(4096))))?;
            log.read_to_end(&mut text)
        });
        let text = String::from_utf8_lossy(&text);
        let last: Vec<&str> = text.lines().rev().take(5).collect();
        match read {
            Ok(_) if !last.is_empty() => last.into_iter().rev().collect::<Vec<_>>().join("\n  "),
            _ => format!("see {}", self.planned.log.display()),
        }
    }

    /// # Errors
    /// Why it is not ready.
    pub(super) async fn ask_ready(&mut self, http: &reqwest::Client) -> Result<(), String> {
        let reply = http.get(format!("http://{}/readyz", self.planned.ops)).send().await;
        let said: serde_json::Value = match reply {
            Ok(reply) => reply.json().await.map_err(|_| "no answer that is understood".to_owned())?,
            Err(_) => return Err("starting".to_owned()),
        };
        // Another process on this port is not this node: its identity says which data it has.
        let name = said.get("node").and_then(|name| name.as_str());
        if name != Some(self.planned.name.as_str()) {
            return Err(format!("something else answers on {}", self.planned.ops));
        }
        self.node_id = said.get("node_id").and_then(|id| id.as_str()).map(str::to_owned);
        if said.get("ready") == Some(&serde_json::Value::Bool(true)) {
            return Ok(());
        }
        Err(said.get("reason").and_then(|reason| reason.as_str()).unwrap_or("not ready").to_owned())
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| !self.reported)
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::debug!(node = self.planned.name, cause = %error, "the node has ended before it was told to");
        }
    }
}

/// Stops all at once and waits for all.
pub(super) async fn stop(mut nodes: Vec<Process>) {
    for node in &mut nodes {
        if node.ended_now().is_none() {
            node.signal(Signal::TERM);
        }
    }
    let end = tokio::time::Instant::now() + STOP;
    for node in &mut nodes {
        if let Ok(Ok(_)) = tokio::time::timeout_at(end, node.child.wait()).await {
            continue;
        }
        note(&format_args!("{} does not end; killing it", node.planned.name));
        node.signal(Signal::KILL);
        if let Err(error) = node.child.wait().await {
            tracing::warn!(node = node.planned.name, cause = %error, "cannot tell whether the node ended; stop dev and start it again");
        }
    }
}
