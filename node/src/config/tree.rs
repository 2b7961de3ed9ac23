//! The tree of settings with their defaults, in the order of `docs/trow.toml`.
//!
//! Always holds: each setting is asked for exactly here. Never does: rules between settings.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;
use super::upstream;
use super::value::{ByteRate, ByteSize, Percent, WithoutQuorum};
use crate::upstream::UpstreamSettings;

/// All settings of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where everything of this node is kept.
    pub data_dir: PathBuf,
    /// The client listener.
    pub server: Server,
    /// Where health and metrics are served.
    pub ops_listen: SocketAddr,
    /// The admission webhook.
    pub webhook: Webhook,
    /// The node's place among its peers.
    pub cluster: Cluster,
    /// Timers of consensus.
    pub raft: Raft,
    /// Copies of each blob; agreed when the cluster is born.
    pub factor: u32,
    /// How long a silent node keeps its partitions.
    pub repair_grace: Duration,
    /// The most that repair fetches, per second.
    pub repair_rate: ByteRate,
    /// How long what nothing refers to is kept.
    pub gc_grace: Duration,
    /// Limits of upload sessions.
    pub uploads: UploadSettings,
    /// What reads of names get without a quorum.
    pub without_quorum: WithoutQuorum,
    /// What the registry permits.
    pub registry: Registry,
    /// Who may pull and push.
    pub auth: Auth,
    /// How full the disk may be for what is cached.
    pub cache: CacheSettings,
    /// Registries that are pulled through, and prefixes that stand for them.
    pub upstream: UpstreamSettings,
    /// Settings of capabilities that are not in this version: read and checked, then unused.
    pub(super) later: Later,
}

/// The client listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Its address.
    pub listen: SocketAddr,
    /// Names under which this registry is itself.
    pub hostnames: Vec<String>,
    /// With TLS, or plain HTTP.
    pub tls: Option<Tls>,
}

/// The admission webhook.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// Its address; without one there is none.
    pub listen: Option<SocketAddr>,
    /// Further names in its certificate.
    pub hostnames: Vec<String>,
    /// `<service>.<namespace>` by which the API server calls it.
    pub service: String,
    /// Files in the place of the cluster's own certificate.
    pub tls: Option<Tls>,
    /// Only callers with a certificate of these CAs.
    pub client_ca: Option<PathBuf>,
    /// Of those, only callers with one of these names; any, if there are none.
    pub client_names: Vec<String>,
    /// How old a policy may be that it decides by.
    pub max_staleness: Duration,
}

/// Which listener's certificate it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// That for clients.
    Server,
    /// The webhook.
    Webhook,
}

impl Section {
    /// The setting of the certificate.
    pub fn cert(self) -> &'static str {
        match self {
            Section::Server => "server.tls.cert",
            Section::Webhook => "webhook.tls.cert",
        }
    }

    /// The setting of the key.
    pub fn key(self) -> &'static str {
        match self {
            Section::Server => "server.tls.key",
            Section::Webhook => "webhook.tls.key",
        }
    }

    /// What it is called.
    pub fn certificate(self) -> &'static str {
        match self {
            Section::Server => "the server's certificate",
            Section::Webhook => "the webhook's certificate",
        }
    }
}

/// A listener's certificate and key, PEM files.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// Of which listener.
    pub of: Section,
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The node's place among its peers.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// What people call this node.
    pub name: String,
    /// Its failure domain; empty when not configured.
    pub zone: String,
    /// The cluster directory; made when missing, unless there are peers to join.
    pub dir: PathBuf,
    /// Where peers connect to.
    pub peer_listen: SocketAddr,
    /// Where peers are told to connect to, `host:port`.
    pub peer_advertise: Option<String>,
    /// Peers to find the cluster by.
    pub join: Vec<String>,
    /// How many nodes, itself included, give birth to the cluster together.
    pub bootstrap_expect: Option<u64>,
    /// Addresses dialled instead of what a member advertises, by name.
    pub dial: BTreeMap<String, String>,
}

/// Timers of consensus.
#[derive(Clone, Debug, PartialEq)]
pub struct Raft {
    /// How often an idle leader speaks.
    pub heartbeat: Duration,
    /// How long a silent leader is waited for.
    pub election: Range<Duration>,
    /// The log is cut when it has grown by this much.
    pub log_limit: ByteSize,
}

/// Limits of upload sessions on this node.
#[derive(Clone, Debug, PartialEq)]
pub struct UploadSettings {
    /// How long an idle session lives.
    pub expiry: Duration,
    /// The most sessions at once.
    pub max_sessions: u64,
    /// The most bytes staged at once.
    pub max_bytes: ByteSize,
}

/// What the registry permits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Registry {
    /// Whether a manifest may name what is not here.
    pub sparse: bool,
    /// Whether anything can be deleted.
    pub delete: bool,
}

/// What callers without a name may do.
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// The file of users.
    pub htpasswd: Option<PathBuf>,
    /// Whether callers without a name may pull.
    pub anonymous_pull: bool,
    /// Whether they may push although there are users, or the listener is beyond loopback.
    pub anonymous_push: bool,
}

/// Shares of the disk between which what is cached is evicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CacheSettings {
    /// Above this the least recently used goes.
    pub high: Percent,
    /// Down to this.
    pub low: Percent,
}

/// Settings of capabilities that are not in this version.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Later {
    pub(super) gc_interval: Duration,
    pub(super) scrub_rate: ByteRate,
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

impl Config {
    /// Asks for every setting.
    pub(super) fn read(r: &mut Reader) -> Config {
        let data_dir = r.or("data_dir", PathBuf::from("data"));
        let server = Server {
            listen: r.or("server.listen", loopback(5000)),
            hostnames: r.or("server.hostnames", Vec::new()),
            tls: tls(r, Section::Server),
        };
        let ops_listen = r.or("ops.listen", loopback(5002));
        let webhook = Webhook {
            listen: r.optional("webhook.listen"),
            hostnames: r.or("webhook.hostnames", Vec::new()),
            service: r.or("webhook.service", "trow.trow".to_owned()),
            tls: tls(r, Section::Webhook),
            client_ca: r.optional("webhook.client_ca"),
            client_names: r.or("webhook.client_names", Vec::new()),
            max_staleness: r.or("webhook.max_staleness", 5 * MINUTE),
        };
        let cluster = Cluster {
            name: r.optional("cluster.name").unwrap_or_else(host_name),
            zone: r.or("cluster.zone", String::new()),
            dir: r.optional("cluster.dir").unwrap_or_else(|| data_dir.join("cluster")),
            peer_listen: r.or("cluster.peer_listen", loopback(5001)),
            peer_advertise: r.optional("cluster.peer_advertise"),
            join: r.or("cluster.join", Vec::new()),
            bootstrap_expect: r.optional("cluster.bootstrap_expect"),
            dial: r.map("cluster.dial"),
        };
        let raft = Raft {
            heartbeat: r.or("raft.heartbeat", Duration::from_millis(150)),
            election: r.or("raft.election", Duration::from_millis(500)..Duration::from_millis(800)),
            log_limit: r.or("raft.log_limit", ByteSize(trow_raft::Settings::LOG_LIMIT)),
        };
        let factor = r.or("replication.factor", 3_u64);
        let uploads = UploadSettings {
            expiry: r.or("uploads.expiry", 24 * HOUR),
            max_sessions: r.or("uploads.max_sessions", 10_000),
            max_bytes: r.or("uploads.max_bytes", ByteSize(64 << 30)),
        };
        let auth = Auth {
            htpasswd: r.optional("auth.htpasswd"),
            anonymous_pull: r.or("auth.anonymous_pull", true),
            anonymous_push: r.or("auth.anonymous_push", false),
        };
        Config {
            data_dir,
            server,
            ops_listen,
            webhook,
            cluster,
            raft,
            factor: u32::try_from(factor).unwrap_or(u32::MAX),
            repair_grace: r.or("repair.grace", 10 * MINUTE),
            repair_rate: r.or("repair.rate", ByteRate(100 << 20)),
            gc_grace: r.or("gc.grace", 24 * HOUR),
            uploads,
            without_quorum: r.or("reads.without_quorum", WithoutQuorum::Stale),
            registry: Registry {
                sparse: r.or("registry.sparse", false),
                delete: r.or("registry.delete", true),
            },
            auth,
            cache: CacheSettings {
                high: r.or("cache.high", Percent(90)),
                low: r.or("cache.low", Percent(80)),
            },
            upstream: upstream::read(r),
            later: Later::read(r),
        }
    }
}

impl Later {
    fn read(r: &mut Reader) -> Later {
        Later { gc_interval: r.or("gc.interval", HOUR), scrub_rate: r.or("scrub.rate", ByteRate(20 << 20)) }
    }
}

/// A certificate without its key, or the reverse, is the problem of the missing one.
fn tls(r: &mut Reader, of: Section) -> Option<Tls> {
    let (cert, key) = (r.optional(of.cert()), r.optional(of.key()));
    match (cert, key) {
        (Some(cert), Some(key)) => Some(Tls { of, cert, key }),
        (None, None) => None,
        (Some(_), None) => {
            r.problem(of.key(), format!("needed with {}: the private key of the certificate", of.cert()));
            None
        }
        (None, Some(_)) => {
            r.problem(of.cert(), format!("needed with {}: the certificate of the key", of.key()));
            None
        }
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "trow".to_owned() } else { name.trim().to_owned() }
}
