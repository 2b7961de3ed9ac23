//! `trow dev`: a cluster on loopback, each node a process of its own.
//!
//! Always holds: the nodes end with this process, however it ends; what dev sets itself wins over
//! the configuration it was given. Never does: restart a node, or anything that `trow serve` with
//! the printed command would not do.

mod plan;
mod process;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{Collector, Failure, Output, Table, note, print_json, print_line};
use plan::{Plan, PlannedNode};
use process::Process;

/// How often starting nodes are asked whether they are ready.
const POLL: Duration = Duration::from_millis(100);
/// A node that is not ready after this long is worth a word.
const PATIENCE: Duration = Duration::from_secs(15);

/// `trow dev`.
#[derive(Debug, Args)]
pub struct Dev {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    nodes: u16,
    /// Clients of node i connect to this + 10·(i−1); peers, ops and webhook follow
    #[arg(long, default_value_t = 5000)]
    base_port: u16,
    /// Where everything is kept; run again on it, the nodes come back with their data
    #[arg(long, value_name = "DIR", default_value = "trow-dev")]
    data_dir: PathBuf,
    /// Settings for every node
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    collector: Collector,
    /// A table, or one line of JSON once all nodes are ready
    #[arg(long, default_value = "table")]
    output: Output,
}

impl Dev {
    /// Runs the nodes until SIGINT or SIGTERM; each is given the flags `logging`.
    ///
    /// # Errors
    /// They cannot be started.
    pub fn run(self, logging: &[String]) -> Result<(), Failure> {
        if let Some(endpoint) = self.collector.endpoint() {
            crate::traces::check(&endpoint.url).map_err(|why| Failure::Usage(endpoint.refused(&why)))?;
        }
        let further: Vec<String> = logging.iter().cloned().chain(self.collector.arguments()).collect();
        let plan = Plan::new(self.nodes, self.base_port, &self.data_dir, self.config.as_deref(), &further)?;
        plan.check()?;
        plan.ports_are_free()?;
        plan.prepare()?;
        // One thread: the nodes end when the thread that started them does.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::Failed(format!("start the runtime: {error}")))?;
        runtime.block_on(self.supervise(&plan))
    }

    async fn supervise(&self, plan: &Plan) -> Result<(), Failure> {
        let catch = |kind| signal(kind).map_err(|error| Failure::Failed(format!("catch signals: {error}")));
        let mut signals =
            Signals { int: catch(SignalKind::interrupt())?, term: catch(SignalKind::terminate())? };
        let mut nodes = Vec::new();
        for node in &plan.nodes {
            match Process::start(node) {
                Ok(process) => nodes.push(process),
                Err(failure) => {
                    process::stop(nodes).await;
                    return Err(failure);
                }
            }
        }
        let ready = tokio::select! {
            ready = until_ready(&mut nodes) => ready.map(|()| true),
            () = signals.any() => Ok(false),
        };
        let done = match ready {
            Ok(true) => self.announce(plan, &nodes),
            Ok(false) => {
                process::stop(nodes).await;
                return Ok(());
            }
            Err(failure) => Err(failure),
        };
        if done.is_ok() {
            watch(&mut nodes, &mut signals).await;
        }
        process::stop(nodes).await;
        done
    }

    fn announce(&self, plan: &Plan, nodes: &[Process]) -> Result<(), Failure> {
        match self.output {
            Output::Json => {
                let nodes: Vec<_> = nodes.iter().map(Process::document).collect();
                print_json(&serde_json::json!({ "nodes": nodes }))
            }
            Output::Table => {
                let mut table = Table::new(["NODE", "ID", "PID", "CLIENT", "PEER", "OPS", "WEBHOOK", "DATA"]);
                for node in nodes {
                    let planned = node.planned();
                    table.row([
                        planned.name.clone(),
                        node.node_id().to_owned(),
                        node.pid().to_string(),
                        planned.client.to_string(),
                        planned.peer.to_string(),
                        planned.ops.to_string(),
                        planned.webhook.to_string(),
                        planned.data_dir.display().to_string(),
                    ]);
                }
                print_line(&table.to_string())?;
                let client = plan.nodes.first().map(|node| node.client.to_string()).unwrap_or_default();
                print_line(&format!(
                    "\nPush and pull through any of them, as {client}/NAME:TAG; the logs are {}/n*.log. Ctrl-C stops all.",
                    plan.data_dir.display()
                ))
            }
        }
    }
}

struct Signals {
    int: Signal,
    term: Signal,
}

impl Signals {
    async fn any(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}

/// Waits until all are ready; one that ends before is a failure of all.
async fn until_ready(nodes: &mut [Process]) -> Result<(), Failure> {
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build();
    let http = http.map_err(|error| Failure::Failed(format!("prepare a client: {error}")))?;
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(POLL);
    let began = Instant::now();
    let mut told = false;
    loop {
        let mut waiting = Vec::new();
        for node in nodes.iter_mut() {
            node.must_live()?;
            if let Err(why) = node.ask_ready(&http).await {
                waiting.push(format!("{}: {why}", node.planned().name));
            }
        }
        if waiting.is_empty() {
            return Ok(());
        }
        bar.set_message(waiting.join("; "));
        if !told && began.elapsed() > PATIENCE {
            told = true;
            note(&format_args!("not ready yet: {}", waiting.join("; ")));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Stays until a signal; says when a node ends, and how to start it again.
async fn watch(nodes: &mut [Process], signals: &mut Signals) {
    loop {
        tokio::select! {
            () = signals.any() => return,
            () = tokio::time::sleep(POLL) => {}
        }
        for node in nodes.iter_mut() {
            if let Some(status) = node.ended_now() {
                let PlannedNode { name, serve_command, .. } = node.planned();
                let command = plan::quoted(serve_command);
                note(&format_args!("{name} has ended ({status}). Start it again with: {command}"));
            }
        }
    }
}
