//! `trow bench`: measuring a registry, filling one, and reading what was filled.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use trow_raft::RepoName;

use super::{Failure, Output, Table, counted, note, print_json, print_line};
use crate::bench::{
    Address, BenchError, Case, Fill, FillReport, Filled, Plan, Reads, Report, Run, Spent, Target,
};

/// `trow bench`.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Measure reads and pushes of a few objects, beside another registry if one is named
    Run {
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        rounds: Rounds,
        /// Measure only this; may be repeated [default: everything]
        #[arg(long, value_name = "CASE")]
        only: Vec<Case>,
        /// A table for people, or one line of JSON for programs
        #[arg(long, default_value = "table")]
        output: Output,
    },
    /// Push many small manifests; what is there already stays
    Fill {
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        many: Many,
        /// Begin after what an earlier fill that was broken off has put
        #[arg(long)]
        resume: bool,
        /// A table for people, or one line of JSON for programs
        #[arg(long, default_value = "table")]
        output: Output,
    },
    /// Measure reads of what was filled, at random
    Read {
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        rounds: Rounds,
        #[command(flatten)]
        many: Many,
        /// A table for people, or one line of JSON for programs
        #[arg(long, default_value = "table")]
        output: Output,
    },
}

/// Which registry, and as whom.
#[derive(Debug, Args)]
pub struct Who {
    /// A node of the registry, plain HTTP; repeated, the clients are spread over the nodes
    #[arg(
        long,
        value_name = "URL",
        env = "TROW_SERVER",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:5000"
    )]
    server: Vec<Address>,
    /// The ops listener of a node, for its fsyncs and the time of applying; may be repeated
    #[arg(long, value_name = "URL")]
    ops: Vec<Address>,
    /// Ask the registry as this user
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,
    /// The user's password; the admin token is that of the user `admin`
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Connections at once, one operation at a time on each
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    clients: u16,
}

/// How long, and beside whom.
#[derive(Debug, Args)]
pub struct Rounds {
    /// Another registry to take turns with, plain HTTP
    #[arg(long, value_name = "URL")]
    peer: Option<Address>,
    /// How long each round takes
    #[arg(long, default_value = "4s", value_parser = humantime::parse_duration)]
    round: Duration,
    /// How many rounds of each kind
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

/// What is filled.
#[derive(Debug, Args)]
pub struct Many {
    /// How many manifests
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    manifests: u64,
    /// In how many repositories
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    repositories: u64,
    /// What the repositories' names begin with
    #[arg(long, value_name = "NAME", default_value = "trow-bench/filled")]
    prefix: RepoName,
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::NoServer { .. } => Failure::Unanswered(error.to_string()),
            BenchError::Prepare { .. } | BenchError::NotFilled { .. } => Failure::Failed(error.to_string()),
        }
    }
}

impl Bench {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Bench::Run { who, rounds, only, output } => {
                let everything = <Case as clap::ValueEnum>::value_variants().to_vec();
                let cases = if only.is_empty() { everything } else { only };
                let run = Run { plan: plan(who, rounds)?, cases };
                let repository = format!("trow-bench/{:016x}", rand::random::<u64>());
                let repository: RepoName =
                    repository.parse().map_err(|error| Failure::Failed(format!("{repository}: {error}")))?;
                note(&format_args!("writing to the repository {repository}"));
                let report = on_all_cores(run.run(repository, &bar(0)))?;
                say(output, &report)
            }
            Bench::Read { who, rounds, many, output } => {
                let read = Reads { plan: plan(who, rounds)?, filled: many.filled() };
                let report = on_all_cores(read.run(&bar(0)))?;
                say(output, &report)
            }
            Bench::Fill { who, many, resume, output } => {
                let bar = bar(many.manifests);
                let (target, filled) = (who.target()?, many.filled());
                let fill = Fill { target, filled, ops: who.ops, clients: usize::from(who.clients), resume };
                let report = on_all_cores(fill.run(&bar))?;
                bar.finish_and_clear();
                say_filled(output, &report)
            }
        }
    }
}

impl Who {
    fn target(&self) -> Result<Target, Failure> {
        let target = Target::new(self.server.clone());
        let (Some(user), Some(file)) = (&self.user, &self.password_file) else { return Ok(target) };
        let password = std::fs::read_to_string(file)
            .map_err(|error| Failure::Usage(format!("--password-file {}: {error}", file.display())))?;
        Ok(target.with_user(user, password.trim()))
    }
}

impl Many {
    fn filled(&self) -> Filled {
        Filled::new(self.prefix.clone(), self.manifests, self.repositories)
    }
}

fn plan(who: Who, rounds: Rounds) -> Result<Plan, Failure> {
    let Rounds { peer, round, rounds } = rounds;
    Ok(Plan {
        server: who.target()?,
        peer: peer.map(|peer| Target::new(vec![peer])),
        ops: who.ops,
        clients: usize::from(who.clients),
        round,
        rounds,
    })
}

/// The load may use every core; one thread alone would be what is measured.
fn on_all_cores<T>(work: impl Future<Output = Result<T, BenchError>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("start the runtime: {error}")))?;
    Ok(runtime.block_on(work)?)
}

fn bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let form = "{msg} {wide_bar} {human_pos} of {human_len}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn say(output: Output, report: &Report) -> Result<(), Failure> {
    match output {
        Output::Json => print_json(report)?,
        Output::Table => print_line(&shown(report))?,
    }
    failed(report.errors, report.first_error.as_deref())
}

fn say_filled(output: Output, report: &FillReport) -> Result<(), Failure> {
    match output {
        Output::Json => print_json(report)?,
        Output::Table => print_line(&format!(
            "{} manifests in {} repositories {}/r…; {} put in {:.1} s, {:.0} a second, p50 {:.2} ms, p99 {:.2} ms{}",
            report.manifests,
            report.repositories,
            report.prefix,
            report.figures.operations,
            report.seconds,
            report.figures.rate,
            report.figures.p50_ms,
            report.figures.p99_ms,
            spent(&report.nodes),
        ))?,
    }
    failed(report.figures.errors, report.first_error.as_deref())
}

/// A run in which an operation failed has measured something else than it says.
fn failed(errors: u64, first: Option<&str>) -> Result<(), Failure> {
    match errors {
        0 => Ok(()),
        _ => Err(Failure::Failed(format!(
            "{} failed; the first: {}",
            counted(errors, "operation"),
            first.unwrap_or("?")
        ))),
    }
}

fn shown(report: &Report) -> String {
    let mut table =
        Table::new(["CASE", "PER SECOND", "P50", "P99", "PEER", "P50", "P99", "RATIO", "RANGE", "FSYNCS"]);
    let none = || "-".to_owned();
    let ms = |value: f64| format!("{value:.2} ms");
    for row in &report.rows {
        let (peer, ratio) = (row.peer.as_ref(), row.ratio.as_ref());
        let fsyncs: Vec<String> =
            row.nodes.iter().map(|node| format!("{:.3}", node.fsyncs_per_operation)).collect();
        table.row([
            row.case.clone(),
            format!("{:.0}", row.server.rate),
            ms(row.server.p50_ms),
            ms(row.server.p99_ms),
            peer.map_or_else(none, |peer| format!("{:.0}", peer.rate)),
            peer.map_or_else(none, |peer| ms(peer.p50_ms)),
            peer.map_or_else(none, |peer| ms(peer.p99_ms)),
            ratio.map_or_else(none, |ratio| format!("{:.2}", ratio.median)),
            ratio.map_or_else(none, |ratio| format!("{:.2} to {:.2}", ratio.min, ratio.max)),
            if fsyncs.is_empty() { none() } else { fsyncs.join(" ") },
        ]);
    }
    let left = report.left.as_ref().map_or(String::new(), |left| format!("\nnot deleted: {left}"));
    format!(
        "{table}\n\n{}, {} of {} s each; fsyncs are those of each node by operation{left}",
        counted(report.clients as u64, "client"),
        counted(report.rounds.into(), "round"),
        report.round_seconds
    )
}

fn spent(nodes: &[Spent]) -> String {
    let one = |node: &Spent| {
        let apply =
            node.apply_us_per_entry.map_or(String::new(), |us| format!(", {us:.0} µs to apply an entry"));
        format!("\n{}: {:.3} fsyncs by manifest{apply}", node.ops, node.fsyncs_per_operation)
    };
    nodes.iter().map(one).collect()
}
