//! A cluster of `trow dev` on loopback, whose nodes can be paused, killed and started again.
#![allow(dead_code, reason = "each test uses its part")]

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::run::{Run, command, trow, until};

/// `trow dev`; stopped when dropped.
pub struct Dev {
    child: Child,
    /// As printed once all were ready.
    pub nodes: Vec<serde_json::Value>,
    token_file: String,
}

impl Dev {
    /// Starts it with its data in `dir`, on ports that are free now.
    pub fn start(dir: &Path, nodes: u16) -> Dev {
        Dev::start_with(dir, nodes, &[], &[])
    }

    /// The same with these variables, and further flags.
    pub fn start_with(dir: &Path, nodes: u16, variables: &[(&str, &str)], flags: &[&str]) -> Dev {
        let data_dir = dir.join("dev");
        let base = free_base(nodes);
        let log = File::create(dir.join("dev.log")).unwrap();
        let mut child = command()
            .args([
                "dev",
                "--output",
                "json",
                "--nodes",
                &nodes.to_string(),
                "--base-port",
                &base.to_string(),
            ])
            .args(["--data-dir", data_dir.to_str().unwrap()])
            .args(flags)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        let said: serde_json::Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{line}\n{}", std::fs::read_to_string(dir.join("dev.log")).unwrap()));
        let nodes = said["nodes"].as_array().unwrap().clone();
        let token_file = format!("{}/cluster/admin.token", data_dir.display());
        Dev { child, nodes, token_file }
    }

    /// A node's field, as text.
    pub fn field(&self, node: usize, name: &str) -> &str {
        self.nodes[node][name].as_str().unwrap()
    }

    /// A command with the flags that name a node.
    pub fn with_server(&self, node: usize, arguments: &[&str]) -> Vec<String> {
        let server =
            ["--server", &format!("http://{}", self.field(node, "client")), "--token-file", &self.token_file];
        arguments.iter().chain(&server).map(|word| (*word).to_owned()).collect()
    }

    /// Runs a command against a node.
    pub fn cli(&self, node: usize, arguments: &[&str]) -> Run {
        let all = self.with_server(node, arguments);
        trow(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What the cluster says of itself through a node, once it has a quorum: on a busy machine an
    /// election may take longer than a status waits.
    pub fn status(&self, node: usize) -> serde_json::Value {
        let asked = ["cluster", "status", "--output", "json"];
        until("a status with a quorum", || {
            let run = self.cli(node, &asked);
            run.succeeded().then(|| serde_json::from_str(&run.out).unwrap())
        })
    }

    fn signal(&self, node: usize, signal: Signal) {
        let pid = i32::try_from(self.nodes[node]["pid"].as_u64().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Stops a node in its tracks.
    pub fn pause(&self, node: usize) {
        self.signal(node, Signal::STOP);
    }

    /// Lets a paused node go on.
    pub fn resume(&self, node: usize) {
        self.signal(node, Signal::CONT);
    }

    /// Kills a node as `kill -9` does, and waits until it is gone.
    pub fn kill(&self, node: usize) {
        self.signal(node, Signal::KILL);
        let address = self.field(node, "ops");
        until("the killed node to be gone", || TcpStream::connect(address).is_err().then_some(()));
    }

    /// Starts a node with its printed command, from another directory.
    pub fn restart(&self, node: usize) -> Restarted {
        self.restart_with(node, &[])
    }

    /// The same with further flags.
    pub fn restart_with(&self, node: usize, flags: &[&str]) -> Restarted {
        let line: Vec<&str> = self.nodes[node]["serve_command"]
            .as_array()
            .unwrap()
            .iter()
            .map(|word| word.as_str().unwrap())
            .collect();
        let mut command = Command::new(line[0]);
        command
            .args(&line[1..])
            .args(flags)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Restarted(command.spawn().unwrap())
    }

    /// Sends SIGTERM; it must end with 0, and so must its nodes.
    pub fn terminate(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let status = until("dev to end", || self.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0));
        for node in &self.nodes {
            assert!(
                TcpStream::connect(node["ops"].as_str().unwrap()).is_err(),
                "{} still runs",
                node["name"]
            );
        }
    }
}

impl Drop for Dev {
    /// Its nodes end with it.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node that was started with its printed command; killed when dropped.
pub struct Restarted(Child);

impl Drop for Restarted {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A base whose ports are all free now.
fn free_base(nodes: u16) -> u16 {
    let first = 20_000 + (std::process::id() % 200) as u16 * 100;
    let free = |base: &u16| {
        (0..nodes).all(|node| {
            (0..4).all(|offset| TcpListener::bind(("127.0.0.1", base + 10 * node + offset)).is_ok())
        })
    };
    let base = (first..60_000).step_by(100).find(free).unwrap();
    // Tests of one process run at the same time: each takes a base and leaves it.
    static TAKEN: std::sync::Mutex<Vec<u16>> = std::sync::Mutex::new(Vec::new());
    let mut taken = TAKEN.lock().unwrap();
    let base = (base..60_000).step_by(100).find(|base| !taken.contains(base) && free(base)).unwrap();
    taken.push(base);
    base
}
