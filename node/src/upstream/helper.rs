//! Programs that know credentials: `docker-credential-<name>`, by the protocol that they all speak.
//!
//! Always holds: a program gets a bounded time and says a bounded amount; what it said is kept for minutes and
//! never shown. Never does: run a name that is a path, or through a shell.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use super::credentials::Login;

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much it may say.
const SAYS_MAX: u64 = 64 << 10;
/// How long what it said counts, and how long that it failed does.
const KEPT: Duration = Duration::from_secs(300);
const KEPT_FAILURE: Duration = Duration::from_secs(10);
/// How it says that it knows none, on standard output.
const KNOWS_NONE: &str = "credentials not found";
/// The user in whose name a refresh token is given.
const TOKEN_USER: &str = "<token>";

/// What programs said, by program and server.
#[derive(Default)]
pub(super) struct Helpers {
    /// Where the programs are; where all programs are when none is said.
    dir: Option<PathBuf>,
    kept: Mutex<HashMap<(String, String), Arc<Slot>>>,
}

/// What one said for one server, locked while it is asked.
type Slot = tokio::sync::Mutex<Option<Kept>>;

struct Kept {
    said: Result<Option<Login>, String>,
    until: Instant,
}

#[derive(Deserialize)]
struct Said {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

impl Helpers {
    /// Programs of a directory.
    #[cfg(test)]
    pub(super) fn of(dir: PathBuf) -> Helpers {
        Helpers { dir: Some(dir), ..Helpers::default() }
    }

    fn program(&self, helper: &str) -> PathBuf {
        let name = format!("docker-credential-{helper}");
        self.dir.as_ref().map_or_else(|| PathBuf::from(&name), |dir| dir.join(&name))
    }

    /// The login that a program knows for a server, if it knows one.
    ///
    /// # Errors
    /// Why it did not say, without anything that it said.
    pub(super) async fn get(&self, helper: &str, server: &str) -> Result<Option<Login>, String> {
        let key = (helper.to_owned(), server.to_owned());
        let slot = self.kept.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone();
        let mut kept = slot.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.until > Instant::now()) {
            return kept.said.clone();
        }
        let said = timeout(PATIENCE, ask(self.program(helper), server))
            .await
            .unwrap_or_else(|_| Err("takes too long".to_owned()));
        let said = said.map_err(|why| format!("its credential helper docker-credential-{helper} {why}"));
        if let Err(why) = &said {
            tracing::warn!(helper, server, cause = why, "no credentials for an upstream");
        }
        let until = Instant::now() + if said.is_ok() { KEPT } else { KEPT_FAILURE };
        *kept = Some(Kept { said: said.clone(), until });
        said
    }
}

async fn ask(program: PathBuf, server: &str) -> Result<Option<Login>, String> {
    let failed = |_| "cannot be run".to_owned();
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not listen may still know.
        let _ = stdin.write_all(format!("{server}\n").as_bytes()).await;
    }
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(SAYS_MAX + 1).read_to_end(&mut said).await.map_err(|_| "cannot be heard".to_owned())?;
    }
    if said.len() as u64 > SAYS_MAX {
        return Err("says too much".to_owned());
    }
    let status = child.wait().await.map_err(|_| "cannot be waited for".to_owned())?;
    if !status.success() {
        return match String::from_utf8_lossy(&said).contains(KNOWS_NONE) {
            true => Ok(None),
            false => Err(format!("failed ({status})")),
        };
    }
    let Said { user, secret } =
        serde_json::from_slice(&said).map_err(|_| "says no credentials".to_owned())?;
    Ok(Some(match user.as_str() {
        TOKEN_USER => Login::Identity(secret),
        _ => Login::Password { user, password: secret },
    }))
}
