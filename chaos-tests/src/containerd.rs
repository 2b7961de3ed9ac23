//! A containerd of the test's own.
//!
//! It runs with its own directories and in its own mount namespace, and has no part that needs the kernel's help;
//! nothing of another containerd on this machine is touched. It reaches no more than loopback.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::layout::blobs;
use crate::tool::{NOWHERE, Tool};

/// A running containerd; it ends when this is dropped.
#[derive(Debug)]
pub struct Containerd {
    root: PathBuf,
    /// Where it listens.
    pub socket: PathBuf,
    log: PathBuf,
    process: Child,
}

impl Containerd {
    /// Starts one with its directories below `scratch`, for `ctr`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(scratch: &Path) -> Result<Self> {
        Containerd::run(scratch, "disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n", "")
    }

    /// Starts one that pulls as the kubelet asks it to, by the files in `hosts`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn for_kubelet(scratch: &Path, hosts: &Path) -> Result<Self> {
        let dir = Containerd::dir(scratch);
        let cri = "[plugins.\"io.containerd.grpc.v1.cri\"";
        // It has no network for pods, and looks for none of the machine's.
        let config = format!(
            "{cri}]\ndisable_cgroup = true\n{cri}.containerd]\nsnapshotter = \"native\"\n\
             {cri}.cni]\nbin_dir = {:?}\nconf_dir = {:?}\n{cri}.registry]\nconfig_path = {hosts:?}\n",
            dir.join("cni/bin"),
            dir.join("cni/conf"),
        );
        Containerd::run(scratch, "", &config)
    }

    fn dir(scratch: &Path) -> PathBuf {
        scratch.join("containerd-daemon")
    }

    fn run(scratch: &Path, top: &str, plugins: &str) -> Result<Self> {
        let dir = Containerd::dir(scratch);
        std::fs::create_dir_all(&dir)?;
        let (root, socket, log) = (dir.join("root"), dir.join("socket"), dir.join("log"));
        let config = format!(
            "version = 2\nroot = {root:?}\nstate = {:?}\n{top}[grpc]\naddress = {socket:?}\n{plugins}",
            dir.join("state")
        );
        let file = dir.join("config.toml");
        std::fs::write(&file, config)?;
        let output = std::fs::File::create(&log)?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "containerd", "--config"]).arg(&file);
        command.env("HTTP_PROXY", NOWHERE).env("HTTPS_PROXY", NOWHERE);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let process = command.spawn().context("start containerd")?;
        Ok(Containerd { root, socket, log, process })
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ready(&self, ctr: &Tool) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(30);
        while let Err(error) = ctr.run(&["version"]).await {
            let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
            ensure!(Instant::now() < until, "containerd does not start: {error}\n{}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The blobs that it holds, each checked against its bytes.
    ///
    /// # Errors
    /// One has other bytes.
    pub fn blobs(&self) -> Result<Vec<String>> {
        blobs(&self.root.join("io.containerd.content.v1.content"))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.process.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + Duration::from_secs(10);
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
