//! `trow cluster`: the members of a cluster, seen from outside.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;

use super::client::Client;
use super::status::{shown, summary};
use super::{Failure, Output, Server, Unanswered, block_on, note, print, print_json, print_line};
use crate::admin::document::{HealthDocument, StatusDocument};

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(250);
/// Without an answer for this long, the status is asked as well: it waits for fewer than the condition.
const SLOW: Duration = Duration::from_millis(500);

/// `trow cluster`.
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Make a cluster directory: CA, join secret and admin token, to be given to every node
    Init {
        /// Where; it must not hold one yet
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Say how the cluster is and what to do, then show the members, the partitions and the blobs
    Status {
        /// Say it again and again, this often, until Ctrl-C
        #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", value_parser = humantime::parse_duration)]
        watch: Option<Duration>,
        /// A table for people, or one line of JSON for programs
        #[arg(long, default_value = "table")]
        output: Output,
        #[command(flatten)]
        server: Server,
    },
    /// Wait until the cluster is healthy or settled
    Wait {
        /// What to wait for
        #[arg(long = "for", value_name = "CONDITION")]
        condition: Condition,
        /// How long to wait, such as 60s or 5m; when that is over, exit code 1
        #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
        timeout: Duration,
        /// A table for people, or one line of JSON for programs
        #[arg(long, default_value = "table")]
        output: Output,
        #[command(flatten)]
        server: Server,
    },
    /// Move everything off a node, then remove it; waits until it has left
    Drain {
        /// Its name or id
        node: String,
        /// How long to wait, such as 30m; after that exit code 1, and the node goes on leaving
        #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
        timeout: Duration,
        /// A table for people, or one line of JSON for programs
        #[arg(long, default_value = "table")]
        output: Output,
        #[command(flatten)]
        server: Server,
    },
    /// Remove a node at once, and for good; what only it held is lost
    Remove {
        /// Its name or id
        node: String,
        /// A table for people, or one line of JSON for programs
        #[arg(long, default_value = "table")]
        output: Output,
        #[command(flatten)]
        server: Server,
    },
}

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Condition {
    /// There is a quorum, every member is up and caught up; fewer nodes than copies are no reason to wait
    Healthy,
    /// Also, every blob is exactly where it belongs
    Settled,
}

impl Cluster {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Cluster::Init { out } => init(&out),
            Cluster::Status { watch, output, server } => {
                let client = server.client()?;
                match watch {
                    None => block_on(status(&client, output)),
                    Some(interval) => block_on(watched(&client, output, interval)),
                }
            }
            Cluster::Wait { condition, timeout, output, server } => {
                let client = server.client()?;
                let (health, failure) = block_on(wait(&client, condition, timeout))?;
                match (failure, output) {
                    (None, _) => say(output, &health, &format!("{}: yes", word(condition))),
                    (Some(failure), Output::Json) => Err(failure.after(print_json(&health))),
                    (Some(failure), Output::Table) => Err(failure),
                }
            }
            Cluster::Drain { node, timeout, output, server } => {
                let client = server.client()?;
                let path = format!("members/{}/drain", encoded(&node));
                let done: serde_json::Value = block_on(async { Ok(client.ask(Method::POST, &path).await?) })?;
                block_on(await_departure(&client, &node, timeout))?;
                say(output, &done, &format!("{node} has left"))
            }
            Cluster::Remove { node, output, server } => {
                let client = server.client()?;
                let path = format!("members/{}", encoded(&node));
                let done: serde_json::Value =
                    block_on(async { Ok(client.ask(Method::DELETE, &path).await?) })?;
                say(output, &done, &format!("{node} is removed"))
            }
        }
    }
}

async fn status(client: &Client, output: Output) -> Result<(), Failure> {
    let status: StatusDocument = client.ask(Method::GET, "status").await?;
    let printed = match output {
        Output::Json => print_json(&status),
        Output::Table => print_line(&shown(&status)),
    };
    if status.stale { Err(Failure::Stale.after(printed)) } else { printed }
}

/// Says it until it cannot be written any more; that nobody answers now is said, too.
async fn watched(client: &Client, output: Output, interval: Duration) -> Result<(), Failure> {
    let clear = output == Output::Table && std::io::IsTerminal::is_terminal(&std::io::stdout());
    // In a file or a pipe one stands below the other, each after an empty line.
    let mut apart = false;
    loop {
        let asked: Result<StatusDocument, Unanswered> = client.ask(Method::GET, "status").await;
        if clear {
            // To the upper left, and nothing below.
            print(b"\x1b[H\x1b[2J")?;
        } else if output == Output::Table && std::mem::replace(&mut apart, true) {
            print_line("")?;
        }
        match (asked, output) {
            (Ok(status), Output::Json) => print_json(&status)?,
            (Ok(status), Output::Table) => print_line(&shown(&status))?,
            (Err(refused @ Unanswered::Refused(_)), _) => return Err(refused.into()),
            (Err(error), Output::Table) => print_line(&error.to_string())?,
            (Err(error), Output::Json) => note(&error),
        }
        tokio::time::sleep(interval).await;
    }
}

fn say(output: Output, document: &impl serde::Serialize, line: &str) -> Result<(), Failure> {
    match output {
        Output::Json => print_json(document),
        Output::Table => print_line(line),
    }
}

fn init(out: &std::path::Path) -> Result<(), Failure> {
    crate::cluster_dir::create(out)
        .map_err(|error| Failure::Failed(format!("{:#}", anyhow::Error::from(error))))?;
    print_line(&format!(
        "made {}: give a copy to every node with --cluster-dir. Who has it can join the cluster and \
         administer it: keep it secret.",
        out.display()
    ))
}

fn word(condition: Condition) -> &'static str {
    match condition {
        Condition::Healthy => "healthy",
        Condition::Settled => "settled",
    }
}

/// A member's name or id in a path.
fn encoded(node: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    node.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn spinner(message: String) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(message);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Asks again and again. That nobody answers yet is part of what is waited out; that the server
/// refuses to be asked is not. When time is up: the last answer, and the failure that it is.
async fn wait(
    client: &Client,
    condition: Condition,
    timeout: Duration,
) -> Result<(HealthDocument, Option<Failure>), Failure> {
    let end = Instant::now() + timeout;
    let bar = spinner(format!("waiting for {}", word(condition)));
    let path = format!("health?for={}", word(condition));
    let unmet = |why: &str| HealthDocument { condition: word(condition).into(), met: false, why: why.into() };
    let mut last: Option<(HealthDocument, Failure)> = None;
    let mut status = std::pin::pin!(async {
        tokio::time::sleep(SLOW).await;
        client.ask::<StatusDocument>(Method::GET, "status").await.ok()
    });
    // None: it was not answered yet.
    let mut known: Option<Option<StatusDocument>> = None;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let ask = client.ask::<HealthDocument>(Method::GET, &path);
        let mut ask = std::pin::pin!(tokio::time::timeout(left.max(POLL), ask));
        let answer = loop {
            tokio::select! {
                answer = &mut ask => break answer,
                answer = &mut status, if known.is_none() && last.is_none() => known = Some(answer),
            }
        };
        match answer {
            Ok(Ok(health)) if health.met => return Ok((health, None)),
            Ok(Ok(health)) => {
                let why = format!("time is up: not {}: {}", word(condition), health.why);
                last = Some((health, Failure::Failed(why)));
            }
            Ok(Err(Unanswered::Refused(why))) => return Err(Failure::Failed(why)),
            Ok(Err(Unanswered::NoQuorum(why))) => {
                last = Some((unmet(&why), Failure::Failed(format!("time is up: {why}"))));
            }
            Ok(Err(no_server)) => {
                let why = no_server.to_string();
                last = Some((unmet(&why), Failure::Unanswered(why)));
            }
            // An answer that was under way when time was up says nothing new.
            Err(_) => {}
        }
        let why = last.as_ref().map_or_else(|| "no answer yet".to_owned(), |(health, _)| health.why.clone());
        if Instant::now() + POLL >= end {
            let silent = || {
                let within = humantime::format_duration(timeout);
                let why = match known.flatten() {
                    Some(status) => format!("not known to be {}; {}", word(condition), summary(&status)),
                    None => format!(
                        "no answer within {within}; a member that is silent is waited for: allow more with --timeout"
                    ),
                };
                (unmet(&why), Failure::Failed(format!("time is up: {why}")))
            };
            let (health, failure) = last.unwrap_or_else(silent);
            return Ok((health, Some(failure)));
        }
        bar.set_message(why);
        tokio::time::sleep(POLL).await;
    }
}

async fn await_departure(client: &Client, node: &str, timeout: Duration) -> Result<(), Failure> {
    let end = Instant::now() + timeout;
    let bar = spinner(format!("{node} is leaving"));
    let mut why = String::new();
    while Instant::now() < end {
        // A node without a quorum may remember the member: only a fresh answer counts.
        match client.ask::<StatusDocument>(Method::GET, "status").await {
            Ok(status) if !status.stale && !status.has_member(node) => return Ok(()),
            Ok(status) => {
                why = holding_up(&status);
                bar.set_message(format!("{node} is leaving{why}"));
            }
            Err(Unanswered::Refused(why)) => return Err(Failure::Failed(why)),
            Err(error) => why = format!(": {error}"),
        }
        tokio::time::sleep(POLL).await;
    }
    Err(Failure::Failed(format!("time is up: {node} is still leaving{why}")))
}

/// What a drain waits for, as far as the status shows it.
fn holding_up(status: &StatusDocument) -> String {
    let down: Vec<&str> = status
        .members
        .iter()
        .filter(|member| member.state == "down")
        .map(|member| member.name.as_str())
        .collect();
    if status.stale {
        ": the cluster has no quorum".to_owned()
    } else if status.members.len() < 2 {
        ": it is the only member, so there is nobody to take over".to_owned()
    } else if !down.is_empty() {
        format!(": {} does not answer; start it, or remove it when it is gone for good", down.join(", "))
    } else {
        match status.partitions.moving {
            1 => ": 1 partition is moving".to_owned(),
            moving => format!(": {moving} partitions are moving"),
        }
    }
}
