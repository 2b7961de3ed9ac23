//! Which nodes `trow dev` runs: their addresses, directories and commands.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use trow_raft::limits::VOTERS_MAX;

use crate::cli::{Failure, ServeFlags};
use crate::config::{Config, Sources};

/// A listener on loopback answers at once.
const CONNECT: Duration = Duration::from_millis(500);

/// All nodes.
pub(super) struct Plan {
    /// Absolute.
    pub(super) data_dir: PathBuf,
    cluster_dir: PathBuf,
    config: Option<PathBuf>,
    pub(super) nodes: Vec<PlannedNode>,
}

/// One node, before it runs.
#[derive(Clone, Debug)]
pub(super) struct PlannedNode {
    pub(super) name: String,
    pub(super) client: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) ops: SocketAddr,
    pub(super) webhook: SocketAddr,
    pub(super) data_dir: PathBuf,
    pub(super) log: PathBuf,
    /// Complete: starts the node from any directory, in an environment that says nothing itself of
    /// Trow or of where traces go.
    pub(super) serve_command: Vec<String>,
    flags: ServeFlags,
}

impl Plan {
    /// `further` are flags of `serve` that are no settings, the same for every node.
    pub(super) fn new(
        count: u16,
        base: u16,
        data_dir: &Path,
        config: Option<&Path>,
        further: &[String],
    ) -> Result<Plan, Failure> {
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
        };
        let data_dir = absolute(data_dir)?;
        let config = config.map(absolute).transpose()?;
        let cluster_dir = data_dir.join("cluster");
        let port = |node: u16, offset: u16| {
            let port = u32::from(base) + 10 * u32::from(node) + u32::from(offset);
            let port = u16::try_from(port).map_err(|_| {
                Failure::Usage(format!(
                    "--base-port {base}: node {} would need port {port}, and 65535 is the last",
                    node + 1
                ))
            });
            port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        };
        let join: Vec<String> =
            (0..count).map(|node| Ok(port(node, 1)?.to_string())).collect::<Result<_, Failure>>()?;
        let founders = usize::from(count).min(VOTERS_MAX);
        let exe = std::env::current_exe()
            .map_err(|error| Failure::Failed(format!("find this program: {error}")))?;
        let prefix = environment(config.is_some());
        let mut nodes = Vec::new();
        for node in 0..count {
            let name = format!("n{}", node + 1);
            let dir = data_dir.join(&name);
            let founder = usize::from(node) < founders;
            let flags = ServeFlags {
                data_dir: Some(dir.display().to_string()),
                name: Some(name.clone()),
                listen: Some(port(node, 0)?.to_string()),
                peer_listen: Some(port(node, 1)?.to_string()),
                ops_listen: Some(port(node, 2)?.to_string()),
                webhook_listen: Some(port(node, 3)?.to_string()),
                cluster_dir: Some(cluster_dir.display().to_string()),
                // A founder counts only founders, so that all of them mean the same set.
                join: if founder { join[..founders].to_vec() } else { join.clone() },
                bootstrap_expect: founder.then(|| founders.to_string()),
                ..ServeFlags::default()
            };
            let mut serve_command = prefix.clone();
            serve_command.extend([exe.display().to_string(), "serve".to_owned()]);
            if let Some(config) = &config {
                serve_command.extend(["--config".to_owned(), config.display().to_string()]);
            }
            serve_command.extend(flags.arguments());
            serve_command.extend_from_slice(further);
            nodes.push(PlannedNode {
                client: port(node, 0)?,
                peer: port(node, 1)?,
                ops: port(node, 2)?,
                webhook: port(node, 3)?,
                log: data_dir.join(format!("{name}.log")),
                data_dir: dir,
                name,
                serve_command,
                flags,
            });
        }
        Ok(Plan { data_dir, cluster_dir, config, nodes })
    }

    /// Whether nobody listens where the nodes will: another cluster there would answer for them.
    pub(super) fn ports_are_free(&self) -> Result<(), Failure> {
        let addresses = self.nodes.iter().flat_map(|node| [node.client, node.peer, node.ops, node.webhook]);
        let taken: Vec<String> = addresses
            .filter(|address| std::net::TcpStream::connect_timeout(address, CONNECT).is_ok())
            .map(|address| address.to_string())
            .collect();
        if taken.is_empty() {
            return Ok(());
        }
        Err(Failure::Failed(format!(
            "{} in use by another process: end it, or choose other ports with --base-port",
            taken.join(", ")
        )))
    }

    /// Makes the directories, and the cluster directory the first time.
    pub(super) fn prepare(&self) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.data_dir)
            .map_err(|error| Failure::Failed(format!("create {}: {error}", self.data_dir.display())))?;
        if !self.cluster_dir.join("ca.crt").exists() {
            crate::cluster_dir::create(&self.cluster_dir)
                .map_err(|error| Failure::Failed(error.to_string()))?;
        }
        Ok(())
    }

    /// Checks what every node would check, so that it is said once and here.
    pub(super) fn check(&self) -> Result<(), Failure> {
        for node in &self.nodes {
            let mut flags = node.flags.clone();
            // Before the first run there is no cluster directory yet, and it is not theirs to miss.
            flags.join.clear();
            flags.bootstrap_expect = None;
            let sources = Sources::of_process(flags.values(), self.config.clone());
            Config::load(sources).map_err(|problems| Failure::Usage(problems.to_string()))?;
        }
        Ok(())
    }
}

/// Variables that are kept from the nodes: what concerns them is in their command.
pub(super) const WITHHELD: [&str; 7] = [
    "TROW_CA_FILE",
    "TROW_CONFIG",
    "TROW_LOG",
    "TROW_LOG_FORMAT",
    "TROW_OTLP_ENDPOINT",
    "TROW_SERVER",
    "TROW_TOKEN_FILE",
];

/// What must precede the program so that the command means the same anywhere: the variables that
/// are settings, and the directory in which the configuration's relative paths start.
fn environment(config: bool) -> Vec<String> {
    let variables =
        std::env::vars().filter(|(name, _)| name.starts_with("TROW_") && !WITHHELD.contains(&name.as_str()));
    let mut prefix: Vec<String> = variables.map(|(name, value)| format!("{name}={value}")).collect();
    prefix.sort();
    match std::env::current_dir() {
        Ok(dir) if config => prefix.splice(0..0, ["-C".to_owned(), dir.display().to_string()]).for_each(drop),
        _ => {}
    }
    if !prefix.is_empty() {
        prefix.insert(0, "/usr/bin/env".to_owned());
    }
    prefix
}

/// A command as it is typed in a shell.
pub(super) fn quoted(command: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@".contains(c);
    let word = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    command.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_directories_are_as_documented() {
        let plan = Plan::new(7, 6000, Path::new("/d"), None, &[]).unwrap();
        let third = &plan.nodes[2];
        assert_eq!(third.name, "n3");
        assert_eq!(
            [third.client, third.peer, third.ops, third.webhook].map(|a| a.port()),
            [6020, 6021, 6022, 6023]
        );
        assert_eq!(third.data_dir, Path::new("/d/n3"));
        assert_eq!(third.flags.join.len(), 5);
        assert_eq!(plan.nodes[6].flags.join.len(), 7);
        assert_eq!(plan.nodes[6].flags.bootstrap_expect, None);
    }

    #[test]
    fn ports_beyond_the_last_are_a_usage_error() {
        assert!(matches!(Plan::new(3, 65530, Path::new("/d"), None, &[]), Err(Failure::Usage(_))));
    }

    #[test]
    fn commands_survive_a_shell() {
        assert_eq!(quoted(&["a b".into(), "c".into(), "it's".into()]), r"'a b' c 'it'\''s'");
    }
}
