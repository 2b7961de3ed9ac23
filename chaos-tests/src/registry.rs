//! Another registry: Debian's docker-registry, to copy from and to compare with.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::client::Client;

/// A running docker-registry with an empty store; it ends when this is dropped.
#[derive(Debug)]
pub struct Registry {
    /// Where it listens, `host:port`.
    pub address: String,
    process: Child,
}

impl Registry {
    /// Starts one that keeps its data below `dir`, and waits until it answers.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
            dir.join("data").display()
        );
        let file = dir.join("config.yml");
        std::fs::write(&file, config)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().context("start docker-registry")?;
        let registry = Registry { address, process };
        let until = Instant::now() + Duration::from_secs(20);
        while registry.client().tags("any").await.is_err() {
            ensure!(Instant::now() < until, "docker-registry does not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(registry)
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new("registry", &self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
