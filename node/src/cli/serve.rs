//! `trow serve`: its flags, and the way from them to a running node.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::config::{Config, FlagValue, Sources};

const MANUAL: &str = "\
Settings: each is a key of the configuration file, a variable and, where listed above, a flag; flags win \
over variables, variables over the file. The key auth.htpasswd is the variable TROW_AUTH_HTPASSWD. \
docs/trow.toml holds every setting with its default.

Users: on loopback everybody may pull and push. A listener beyond it wants a file of users, auth.htpasswd \
(`htpasswd -cB users.htpasswd NAME` makes one; it is read again when it changes), or \
auth.anonymous_push = true. Deleting and administering take the admin token, the file admin.token of the \
cluster directory: as a bearer, or as the password of the user admin.

Signals: SIGTERM and SIGINT hand leadership over, finish what was accepted, and end the node within 30 s.

Exit codes: 0 it was told to end; 1 it failed, was removed from its cluster, or is too old for it; 2 the \
configuration is not valid, and every bad value was named.";

/// Where other OpenTelemetry programs are told of the collector.
const OTLP_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// `trow serve`.
#[derive(Debug, Args)]
#[command(after_help = MANUAL)]
pub struct Serve {
    /// Read settings from this file
    #[arg(long, value_name = "FILE", env = "TROW_CONFIG")]
    config: Option<PathBuf>,
    /// Check the configuration and exit
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    pub(super) collector: Collector,
    #[command(flatten)]
    flags: ServeFlags,
    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    stop_with_parent: bool,
}

/// Where traces go.
#[derive(Clone, Debug, Default, Args)]
pub struct Collector {
    /// Send traces to this OpenTelemetry collector, OTLP over gRPC, such as http://127.0.0.1:4317 [default: what OTEL_EXPORTER_OTLP_ENDPOINT says]
    #[arg(long, env = "TROW_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
}

/// An address for traces, and what named it.
#[derive(Clone, Debug)]
pub struct OtlpEndpoint {
    /// The address, as it was said.
    pub url: String,
    /// It was said to all OpenTelemetry programs.
    for_all: bool,
}

impl OtlpEndpoint {
    /// What is wrong with it, in the name of what named it.
    pub fn refused(&self, why: &str) -> String {
        if self.for_all {
            format!("{OTLP_VARIABLE}: {why}; set TROW_OTLP_ENDPOINT to another")
        } else {
            format!("--otlp-endpoint (TROW_OTLP_ENDPOINT): {why}")
        }
    }
}

impl Collector {
    /// What was said; the variable of other OpenTelemetry programs counts as well, unless it is empty.
    /// An empty flag says that there is to be no collector.
    fn said(&self) -> Option<OtlpEndpoint> {
        let own = self.otlp_endpoint.clone().map(|url| OtlpEndpoint { url, for_all: false });
        own.or_else(|| {
            let url = std::env::var(OTLP_VARIABLE).ok().filter(|url| !url.is_empty())?;
            Some(OtlpEndpoint { url, for_all: true })
        })
    }

    /// The collector, if there is to be one.
    pub fn endpoint(&self) -> Option<OtlpEndpoint> {
        self.said().filter(|endpoint| !endpoint.url.is_empty())
    }

    /// The same, as it is typed.
    pub fn arguments(&self) -> Vec<String> {
        let flag = |endpoint: OtlpEndpoint| ["--otlp-endpoint".to_owned(), endpoint.url];
        self.said().map(flag).into_iter().flatten().collect()
    }
}

/// Settings that are also flags. They are text here: the configuration judges them, together with
/// what the file and the variables say.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeFlags {
    /// Where this node keeps everything [data_dir, default: data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// This node's name, unique in the cluster [cluster.name, default: the host name]
    #[arg(long)]
    pub name: Option<String>,
    /// This node's failure domain [cluster.zone]
    #[arg(long)]
    pub zone: Option<String>,
    /// Where clients connect [server.listen, default: 127.0.0.1:5000]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Certificate chain for clients, PEM; without it plain HTTP [server.tls.cert]
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// The certificate's key, PEM [server.tls.key]
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// Where other nodes connect [cluster.peer_listen, default: 127.0.0.1:5001]
    #[arg(long, value_name = "ADDR")]
    pub peer_listen: Option<String>,
    /// Where other nodes are told to connect [cluster.peer_advertise, default: the peer listener]
    #[arg(long, value_name = "HOST:PORT")]
    pub peer_advertise: Option<String>,
    /// Where health and metrics are served [ops.listen, default: 127.0.0.1:5002]
    #[arg(long, value_name = "ADDR")]
    pub ops_listen: Option<String>,
    /// Where the admission webhook is served, HTTPS [webhook.listen, default: nowhere]
    #[arg(long, value_name = "ADDR")]
    pub webhook_listen: Option<String>,
    /// The cluster directory of `trow cluster init` [cluster.dir, default: cluster in the data directory]
    #[arg(long, value_name = "DIR")]
    pub cluster_dir: Option<String>,
    /// A node to find the cluster by, or a name that resolves to many; repeatable [cluster.join]
    #[arg(long, value_name = "HOST:PORT")]
    pub join: Vec<String>,
    /// Make a new cluster of so many nodes, this one included [cluster.bootstrap_expect]
    #[arg(long, value_name = "N")]
    pub bootstrap_expect: Option<String>,
}

impl ServeFlags {
    /// The flags that were given, as settings.
    pub fn values(&self) -> Vec<FlagValue> {
        let one = |key, flag, value: &Option<String>| FlagValue {
            key,
            flag,
            values: value.iter().cloned().collect(),
        };
        vec![
            one("data_dir", "--data-dir", &self.data_dir),
            one("cluster.name", "--name", &self.name),
            one("cluster.zone", "--zone", &self.zone),
            one("server.listen", "--listen", &self.listen),
            one("server.tls.cert", "--tls-cert", &self.tls_cert),
            one("server.tls.key", "--tls-key", &self.tls_key),
            one("cluster.peer_listen", "--peer-listen", &self.peer_listen),
            one("cluster.peer_advertise", "--peer-advertise", &self.peer_advertise),
            one("ops.listen", "--ops-listen", &self.ops_listen),
            one("webhook.listen", "--webhook-listen", &self.webhook_listen),
            one("cluster.dir", "--cluster-dir", &self.cluster_dir),
            FlagValue { key: "cluster.join", flag: "--join", values: self.join.clone() },
            one("cluster.bootstrap_expect", "--bootstrap-expect", &self.bootstrap_expect),
        ]
    }

    /// The flags as they are typed: each value after its flag.
    pub fn arguments(&self) -> Vec<String> {
        let pairs = self
            .values()
            .into_iter()
            .flat_map(|f| f.values.into_iter().map(move |value| [f.flag.to_owned(), value]));
        pairs.flatten().collect()
    }
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let sources = Sources::of_process(self.flags.values(), self.config);
        let (config, idle) =
            Config::load(sources.clone()).map_err(|problems| Failure::Usage(problems.to_string()))?;
        if !idle.is_empty() {
            tracing::warn!(
                "these settings have no effect in this version, and may be left out: {}",
                idle.join(", ")
            );
        }
        if self.check {
            return super::print_line("the configuration is valid");
        }
        if self.stop_with_parent {
            stop_with_parent()?;
        }
        crate::node::run(config, &sources).map_err(|error| Failure::Failed(format!("{error:#}")))
    }
}

/// Asks for SIGTERM when the parent ends, however it ends.
fn stop_with_parent() -> Result<(), Failure> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let before = getppid();
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Failure::Failed(format!("watch the parent process: {error}")))?;
    // It may have ended before the signal was asked for.
    if getppid() != before {
        return Err(Failure::Failed("the parent process has ended".to_owned()));
    }
    Ok(())
}
