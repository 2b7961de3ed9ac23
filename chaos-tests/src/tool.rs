//! Programs of other people, run as a person would run them.
//!
//! A [`Tool`] has a home directory of its own, so that what it remembers, credentials above all, is the
//! test's alone and gone with it, and loopback is all that it reaches. Every run ends within a limit, and
//! one that fails says with which words it was called and what it answered.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A proxy that is not there, for whatever is not on loopback: Go programs do not ask a proxy for that.
pub(crate) const NOWHERE: &str = "http://127.0.0.1:1";

/// A program, and the environment that it is run in.
#[derive(Clone, Debug)]
pub struct Tool {
    name: String,
    home: PathBuf,
    before: Vec<String>,
    env: Vec<(String, String)>,
    limit: Duration,
}

impl Tool {
    /// The program `name`, at home in a directory of that name below `scratch`.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(name: &str, scratch: &Path) -> Result<Self> {
        let home = scratch.join(name);
        std::fs::create_dir_all(&home).with_context(|| format!("make the home of {name}"))?;
        Ok(Tool {
            name: name.to_owned(),
            home,
            before: Vec::new(),
            env: Vec::new(),
            limit: Duration::from_secs(120),
        })
    }

    /// With these words before those of each run.
    pub fn with(mut self, words: &[&str]) -> Self {
        self.before.extend(words.iter().map(ToString::to_string));
        self
    }

    /// With a variable in its environment.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// With another limit for each run.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Where it is at home, and where it is run.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Says which version it is, as it answers to `words`.
    ///
    /// # Errors
    /// As [`Self::run`], or it says none.
    pub async fn version(&self, words: &[&str]) -> Result<()> {
        let said = self.run(words).await?;
        let line = said.lines().find(|line| line.contains(|c: char| c.is_ascii_digit()));
        eprintln!(
            "{}: {}",
            self.name,
            line.with_context(|| format!("{} says no version", self.name))?.trim()
        );
        Ok(())
    }

    /// Runs it; what it wrote to standard output.
    ///
    /// # Errors
    /// It does not start, does not end in time, or ends with another code than 0.
    pub async fn run(&self, words: &[&str]) -> Result<String> {
        self.run_with(words, "").await
    }

    /// The same with text at its standard input, such as a password.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_with(&self, words: &[&str], input: &str) -> Result<String> {
        let output = self.output(words, input).await?;
        if !output.status.success() {
            bail!(
                "{} {} ends with {}: {}{}",
                self.name,
                words.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it and expects that it fails; what it wrote to standard error.
    ///
    /// # Errors
    /// It does not start, does not end in time, or ends with 0.
    pub async fn refused(&self, words: &[&str]) -> Result<String> {
        let output = self.output(words, "").await?;
        ensure!(!output.status.success(), "{} {} does not fail", self.name, words.join(" "));
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    async fn output(&self, words: &[&str], input: &str) -> Result<Output> {
        let called = || format!("{} {}", self.name, words.join(" "));
        let home = self.home.display().to_string();
        let mut child = Command::new(&self.name)
            .args(&self.before)
            .args(words)
            .current_dir(&self.home)
            .env("HOME", &home)
            .env("DOCKER_CONFIG", &home)
            .env("REGISTRY_AUTH_FILE", self.home.join("auth.json"))
            .env("XDG_RUNTIME_DIR", &home)
            .env("HTTP_PROXY", NOWHERE)
            .env("HTTPS_PROXY", NOWHERE)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
            .env_remove("XDG_DATA_HOME")
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", self.name))?;
        let mut stdin = child.stdin.take().context("its standard input")?;
        let work = async {
            // A program that reads nothing may be gone before it was given anything.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(self.limit, work).await;
        let output = output.with_context(|| format!("{} is not done after {:?}", called(), self.limit))?;
        output.with_context(called)
    }
}
