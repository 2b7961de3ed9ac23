//! Asking a cluster about itself: status, settling, where a blob is.
//!
//! Everything goes through the program's own command line or the HTTP interface below it, as an
//! operator would ask.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde_json::Value;
use tokio::process::Command;

use crate::client::Client;

/// The administrator's view of a cluster.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The program.
    pub program: PathBuf,
    /// The file with the admin token.
    pub token_file: PathBuf,
}

impl Admin {
    /// `GET status` of the node that `client` speaks to.
    pub async fn status(&self, client: &Client) -> Result<Value> {
        let token = std::fs::read_to_string(&self.token_file).context("read the admin token")?;
        let request = client.request(Method::GET, "/-/trow/v1/status").bearer_auth(token.trim());
        let answer = client.send("GET status", request).await?;
        if !answer.ok() {
            bail!("status answers {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        serde_json::from_slice(&answer.body).context("status is JSON")
    }

    /// Runs `trow ARGUMENTS` against the node whose client listener is `server`; the exit code, and what
    /// it wrote to standard output and standard error.
    pub async fn run(&self, server: &str, arguments: &[&str]) -> Result<(i32, String, String)> {
        let output = Command::new(&self.program)
            .args(arguments)
            .env("TROW_SERVER", format!("http://{server}"))
            .env("TROW_TOKEN_FILE", &self.token_file)
            .output()
            .await
            .context("run trow")?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr)))
    }

    /// `trow cluster wait --for STATE`.
    pub async fn wait(&self, server: &str, state: &str, limit: Duration) -> Result<()> {
        let timeout = format!("{}s", limit.as_secs());
        let (code, out, err) =
            self.run(server, &["cluster", "wait", "--for", state, "--timeout", &timeout]).await?;
        if code != 0 {
            let (_, status, _) = self.run(server, &["cluster", "status", "--output", "json"]).await?;
            bail!("the cluster is not {state} after {timeout} (exit {code}): {out}{err}\n{status}");
        }
        Ok(())
    }

    /// `trow blob locate DIGEST --output json`.
    pub async fn locate(&self, server: &str, digest: &str) -> Result<Value> {
        let (code, out, err) = self.run(server, &["blob", "locate", digest, "--output", "json"]).await?;
        if code != 0 {
            bail!("locate {digest} exits with {code}: {err}");
        }
        serde_json::from_str(&out).context("locate prints JSON")
    }
}
