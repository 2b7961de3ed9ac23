//! The command line: what can be typed, what it prints, and with which code it ends.
//!
//! Owns the exit codes. Always holds: results go to standard output, everything else to standard
//! error; every table has a JSON form. Never does: the work of a node.

mod bench;
mod blob;
mod cache;
mod client;
mod cluster;
mod node_config;
mod policy;
mod reach;
mod serve;
mod status;
mod table;
mod units;
mod warm;
mod webhook;

use std::process::ExitCode;

use clap::{Arg, Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

pub use client::{Server, Unanswered};
pub use serve::{Collector, OtlpEndpoint, ServeFlags};
pub use table::Table;
pub use units::{counted, human_bytes, human_duration};

/// An OCI image registry for Kubernetes that runs as a cluster of equal nodes.
#[derive(Debug, Parser)]
#[command(name = "trow", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// What is logged, to standard error: error, warn, info, debug, trace; or a filter such as `info,trow::access=off`
    #[arg(long, env = "TROW_LOG", value_name = "FILTER", default_value = LOG, global = true, help_heading = LOGGING)]
    pub log: String,
    /// How log lines are written
    #[arg(long, env = "TROW_LOG_FORMAT", default_value = "text", global = true, help_heading = LOGGING)]
    pub log_format: LogFormat,
    #[command(subcommand)]
    command: Action,
}

/// What is the same for all commands stands after what is not.
const LOGGING: &str = "Logging";
/// What is logged when nothing else is said.
const LOG: &str = "info";

const EXIT_CODES: &str = "\
Begin with `trow serve` for one node, or `trow dev` for a cluster of three on this machine; push to \
127.0.0.1:5000. The help of each command says more, above all `trow serve --help`.

Exit codes: 0 done; 1 failed, refused, or time is up; 2 usage or configuration; 3 no server answers, \
or there is no quorum.

Every setting of `serve` is also a variable TROW_<SECTION>_<KEY> and a key of the configuration file; \
see docs/configuration.md.";

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run one node; alone and without configuration, a complete registry in ./data
    Serve(Box<serve::Serve>),
    /// Run several nodes on loopback, each a process of its own, until Ctrl-C
    Dev(crate::dev::Dev),
    /// Make a cluster directory; see, await and change the members of a cluster
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Ask about blobs
    #[command(subcommand)]
    Blob(blob::Blob),
    /// Pull images into the cluster before anybody asks for them
    Warm(warm::Warm),
    /// See what is cached of other registries, keep it, or drop it
    #[command(subcommand)]
    Cache(cache::Cache),
    /// See and set which images may run, and ask what is decided about one
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Print what Kubernetes needs to trust the admission webhook
    #[command(subcommand)]
    Webhook(webhook::Webhook),
    /// Print or write the files by which containerd, CRI-O or Docker pull through Trow
    NodeConfig(node_config::NodeConfig),
    /// Measure a registry from outside, alone or beside another one
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Print a script that completes commands in a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Why a command did not do what it was asked, by exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It was tried and failed: 1.
    #[error("{0}")]
    Failed(String),
    /// It was asked wrongly: 2.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers, or there is no quorum: 3.
    #[error("{0}")]
    Unanswered(String),
    /// As the variant before, but all that is to be said was printed: 3.
    #[error("no quorum")]
    Stale,
    /// Nobody reads the output any more, as `head` does when it has enough: not a word, and 0.
    #[error("the output is not read to its end")]
    Unread,
}

impl Failure {
    /// Says it on standard error and gives the code.
    fn report(self) -> ExitCode {
        let code = match &self {
            Failure::Unread => return ExitCode::SUCCESS,
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unanswered(_) | Failure::Stale => 3,
        };
        note(&self);
        ExitCode::from(code)
    }

    /// This failure, once what there is to say of it was printed: whether that was read changes
    /// nothing about it.
    fn after(self, printed: Result<(), Failure>) -> Failure {
        match printed {
            Ok(()) | Err(Failure::Unread) => self,
            Err(unwritten) => unwritten,
        }
    }
}

/// An empty variable counts as not set, as one of a setting does: templates write such.
fn without_empty_variables(command: Command) -> Command {
    let is_empty = |arg: &Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(None) } else { arg })
        .mut_subcommands(without_empty_variables)
}

impl Cli {
    /// What was typed. One who asks for help, or types what cannot be, is answered here, and the
    /// process ends.
    pub fn of_process() -> Cli {
        let typed = without_empty_variables(Cli::command()).get_matches();
        Cli::from_arg_matches(&typed).unwrap_or_else(|error| error.exit())
    }

    /// Where traces go: only a node has any.
    pub fn collector(&self) -> Option<OtlpEndpoint> {
        match &self.command {
            Action::Serve(serve) => serve.collector.endpoint(),
            _ => None,
        }
    }

    /// What is logged and how, as flags; those that would change nothing are left out.
    fn logging(&self) -> Vec<String> {
        let filter = (self.log != LOG).then(|| ["--log".to_owned(), self.log.clone()]);
        let format = self.log_format.to_possible_value().filter(|_| self.log_format != LogFormat::Text);
        let format = format.map(|format| ["--log-format".to_owned(), format.get_name().to_owned()]);
        filter.into_iter().chain(format).flatten().collect()
    }

    /// Does what was asked.
    pub fn run(self) -> ExitCode {
        let logging = self.logging();
        let done = match self.command {
            Action::Serve(serve) => serve.run(),
            Action::Dev(dev) => dev.run(&logging),
            Action::Cluster(cluster) => cluster.run(),
            Action::Blob(blob) => blob.run(),
            Action::Warm(warm) => warm.run(),
            Action::Cache(cache) => cache.run(),
            Action::Policy(policy) => policy.run(),
            Action::Webhook(webhook) => webhook.run(),
            Action::NodeConfig(config) => config.run(),
            Action::Bench(bench) => bench.run(),
            Action::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "trow", &mut script);
                print(&script)
            }
        };
        done.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
    }
}

/// Runs a client's `work` to its end.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Failed(format!("start the runtime: {error}")))?.block_on(work)
}

/// Writes `value` as one line of JSON.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string(value).map_err(|error| Failure::Failed(format!("write JSON: {error}")))?;
    print_line(&text)
}

/// Writes a line to standard output.
pub fn print_line(line: &str) -> Result<(), Failure> {
    print(format!("{line}\n").as_bytes())
}

/// Writes to standard output; that nobody reads it any more is a failure, not a panic.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    use std::io::{ErrorKind, Write as _};
    let mut out = std::io::stdout();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::Unread,
        _ => Failure::Failed(format!("write: {error}")),
    })
}

/// Says something beside the results, on standard error; where nobody reads that, it is not said.
pub fn note(what: &dyn std::fmt::Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "trow: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_says_what_is_needed_to_go_on() {
        let mut command = Cli::command();
        let serve = command.find_subcommand_mut("serve").unwrap().render_help().to_string();
        for word in [
            "Exit codes:",
            "TROW_AUTH_HTPASSWD",
            "auth.anonymous_push",
            "admin.token",
            "SIGTERM",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ] {
            assert!(serve.contains(word), "{word}: {serve}");
        }
        let mut commands = vec![command];
        while let Some(command) = commands.pop() {
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                let name = argument.get_id();
                assert!(argument.get_help().is_some(), "{} of {} has no help", name, command.get_name());
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn flags_of_the_log_are_handed_on_unless_they_change_nothing() {
        for (typed, handed_on) in [
            (&[][..], &[][..]),
            (&["--log", "info", "--log-format", "text"], &[]),
            (&["--log", "info,trow::access=off"], &["--log", "info,trow::access=off"]),
            (&["--log-format", "json"], &["--log-format", "json"]),
        ] {
            let cli = Cli::try_parse_from([&["trow", "dev"], typed].concat()).unwrap();
            assert_eq!(cli.logging(), handed_on, "{typed:?}");
        }
    }

    #[test]
    fn every_command_is_typed_as_documented() {
        for line in [
            "serve --check --config trow.toml --join a:1 --join b:1 --bootstrap-expect 3 --webhook-listen 127.0.0.1:1",
            "dev --nodes 5 --base-port 6000 --data-dir d --config f --output json",
            "cluster init --out dir",
            "cluster status --output json --server http://127.0.0.1:1 --token-file t",
            "cluster status --watch",
            "cluster status --watch 500ms --output json",
            "cluster wait --for settled --timeout 60s",
            "cluster drain n1",
            "cluster remove 0123456789abcdef",
            "blob locate sha256:00 --output json",
            "webhook ca --output json",
            "webhook ca --replace",
            "cache list --host docker.io --output json",
            "cache pin nginx:1.27",
            "cache unpin quay.io/a/b",
            "cache purge nginx",
            "cache purge --host localhost:5001",
            "cache purge --all --output json",
            "node-config containerd --mirror http://a:1 --mirror https://b --upstream quay.io,_default --ca f --user u --password-file f --write d --force",
            "policy get --output json",
            "policy set policy.yaml --revision 12",
            "policy diff -",
            "policy test --file policy.yaml nginx quay.io/a:1 --namespace dev-1 --output json",
            "policy test --file policy.yaml --config trow.toml --hostname a --hostname b:1 --assume exists,signedBy=k nginx",
            "policy explain nginx --namespace dev-1",
            "policy convert trow.yaml",
            "policy schema",
            "node-config crio --output json",
            "warm nginx quay.io/a/b:1.2 --platform linux/amd64 --platform linux/arm/v7 --output json",
            "warm registry.example.com:5000/a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 --all-platforms",
            "node-config docker --upstream docker.io",
            "bench run --server http://a:1 --server http://b:1 --peer http://c --ops http://a:2 --round 1s --rounds 2 --only put-manifest --output json",
            "bench fill --manifests 10 --repositories 2 --prefix a/b --user admin --password-file t --resume",
            "bench read --manifests 10 --repositories 2 --clients 8",
            "completions bash",
        ] {
            let words = std::iter::once("trow").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
