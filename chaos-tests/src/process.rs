//! One node as a process: how it is started, watched and ended.
//!
//! The command is kept, so a node that was killed is started again exactly as it was. Output goes to
//! a file beside the data directory. A dropped node is killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::Client;

/// A node: its addresses, its command, and the process when it runs.
#[derive(Debug)]
pub struct Node {
    /// The name in the cluster.
    pub name: String,
    /// The client listener, `host:port`.
    pub client: String,
    /// The peer listener, `host:port`.
    pub peer: String,
    /// The ops listener, `host:port`.
    pub ops: String,
    /// As the harness sees it; a disk in another mount namespace is reached through `/proc`.
    pub data_dir: PathBuf,
    /// The whole command, program first.
    pub command: Vec<String>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// Where its output goes.
    pub log: PathBuf,
    running: Running,
}

#[derive(Debug)]
enum Running {
    No,
    /// Started by the harness.
    Child(Child),
    /// Started by `trow dev`; only its pid is known.
    Other(Pid),
}

impl Node {
    /// A node that does not run yet.
    pub fn new(
        name: &str,
        addresses: [String; 3],
        data_dir: PathBuf,
        command: Vec<String>,
        log: PathBuf,
    ) -> Self {
        let [client, peer, ops] = addresses;
        let name = name.to_owned();
        Node { name, client, peer, ops, data_dir, command, env: Vec::new(), log, running: Running::No }
    }

    /// Says that the node already runs as `pid`, started by somebody else.
    pub fn adopt(&mut self, pid: u32) {
        self.running = Pid::from_raw(pid as i32).map_or(Running::No, Running::Other);
    }

    /// Starts it. It need not be ready on return.
    pub fn start(&mut self) -> Result<()> {
        if self.is_running() {
            bail!("{} already runs", self.name);
        }
        let log = File::options().create(true).append(true).open(&self.log).context("open the node's log")?;
        let (program, arguments) = self.command.split_first().context("the node has no command")?;
        let child = Command::new(program)
            .args(arguments)
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        self.running = Running::Child(child);
        Ok(())
    }

    /// The process, when it runs.
    pub fn pid(&self) -> Option<Pid> {
        match &self.running {
            Running::No => None,
            Running::Child(child) => Pid::from_raw(child.id() as i32),
            Running::Other(pid) => Some(*pid),
        }
    }

    /// Whether the process is there.
    pub fn is_running(&mut self) -> bool {
        match &mut self.running {
            Running::No => false,
            Running::Child(child) => matches!(child.try_wait(), Ok(None)),
            Running::Other(pid) => alive(*pid),
        }
    }

    /// Sends a signal to the process, if it runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, signal);
        }
    }

    /// SIGSTOP, and waits until every thread of the process stands still: a busy machine takes a while.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        let until = Instant::now() + Duration::from_secs(10);
        while self.pid().is_some_and(|pid| !stands_still(pid)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether every thread of the process is stopped.
    pub fn stands_still(&self) -> bool {
        self.pid().is_some_and(stands_still)
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// kill -9, and waits until the process is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.wait(Duration::from_secs(30));
    }

    /// Waits for the process to end by itself. The status is known only of the harness's own children.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let until = Instant::now() + limit;
        loop {
            let ended = match &mut self.running {
                Running::No => Some(None),
                Running::Child(child) => child.try_wait()?.map(Some),
                Running::Other(pid) => (!alive(*pid)).then_some(None),
            };
            if let Some(status) = ended {
                self.running = Running::No;
                return Ok(status);
            }
            if Instant::now() > until {
                bail!("{} still runs after {limit:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A client of this node.
    pub fn client(&self) -> Client {
        Client::new(&self.name, &self.client)
    }

    /// Waits until `/readyz` answers 200.
    pub async fn ready(&mut self, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        let url = format!("http://{}/readyz", self.ops);
        let http = crate::client::http(Duration::from_secs(2));
        loop {
            let last = match http.get(&url).send().await {
                Ok(reply) if reply.status() == 200 => return Ok(()),
                Ok(reply) => format!("{} {}", reply.status(), reply.text().await.unwrap_or_default()),
                Err(error) => error.to_string(),
            };
            if !self.is_running() {
                bail!("{} ended while starting:\n{}", self.name, self.log_tail(30));
            }
            if Instant::now() > until {
                bail!("{} is not ready after {limit:?} ({last}):\n{}", self.name, self.log_tail(30));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The most resident memory the process has had, in bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    /// The resident memory of the process now, in bytes.
    pub fn resident_memory(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    fn memory(&self, field: &str) -> Result<u64> {
        let pid = self.pid().context("the node does not run")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find(|line| line.starts_with(field)).context("no such field")?;
        let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
        Ok(kib * 1024)
    }

    /// Begins anew with [`Node::peak_memory`].
    pub fn forget_peak_memory(&self) -> Result<()> {
        let pid = self.pid().context("the node does not run")?;
        Ok(std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
    }

    /// The last `lines` lines of its output.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The files under `staging/` of the data directory: uploads that are not finished.
    pub fn staged(&self) -> Vec<PathBuf> {
        entries(&self.data_dir.join("staging"))
    }

    /// The files under `blobs/` of the data directory: the hex digest of each.
    pub fn held(&self) -> Vec<String> {
        let mut found = Vec::new();
        for algorithm in entries(&self.data_dir.join("blobs")) {
            for prefix in entries(&algorithm) {
                found.extend(
                    entries(&prefix).iter().filter_map(|file| Some(file.file_name()?.to_str()?.to_owned())),
                );
            }
        }
        found.sort();
        found
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(read) = std::fs::read_dir(dir) else { return Vec::new() };
    read.flatten().map(|entry| entry.path()).collect()
}

/// Whether `pid` is there and not a zombie.
fn alive(pid: Pid) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !is_in(&stat, ['Z', 'X'])
}

/// Whether every thread of `pid` is stopped.
fn stands_still(pid: Pid) -> bool {
    let threads = entries(Path::new(&format!("/proc/{pid}/task")));
    // One that ended meanwhile stands still too.
    threads
        .iter()
        .filter_map(|thread| std::fs::read_to_string(thread.join("stat")).ok())
        .all(|stat| is_in(&stat, ['T', 't']))
}

/// Whether a line of `/proc/<pid>/stat` names one of `states`.
fn is_in(stat: &str, states: [char; 2]) -> bool {
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(states))
}

impl Drop for Node {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        self.kill();
    }
}
