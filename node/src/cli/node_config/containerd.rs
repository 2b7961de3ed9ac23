//! containerd: a directory by upstream with its `hosts.toml`.
//!
//! Always holds: the upstream itself is asked when no mirror has what is wanted; nothing is pushed to a
//! mirror.

use std::fmt::Write as _;

use super::asked::{Mirror, Upstream};
use super::{MARK, Made, Replaces, Wanted};

pub(super) const DIRECTORY: &str = "/etc/containerd/certs.d";

pub(super) const TO_DO: [&str; 4] = [
    "containerd reads these files at each pull; nothing is to be restarted for them",
    "they count only where containerd's config.toml names their directory, and that one alone: the default of \
     containerd 2 names two, of which its transfer service makes one that does not exist, and mirrors are \
     passed by without a word",
    "containerd 2: plugins.\"io.containerd.cri.v1.images\".registry.config_path = \"/etc/containerd/certs.d\", \
     and the same for plugins.\"io.containerd.transfer.v1.local\".config_path; containerd 1: \
     plugins.\"io.containerd.grpc.v1.cri\".registry.config_path; restart containerd if you changed it",
    "no image that Trow itself needs to start may come through Trow alone: the files keep the upstream as the \
     last resort, leave that in",
];

/// Where a copy of the CA lies, beside the `hosts.toml` that names it.
const CA: &str = "trow-ca.crt";
/// A node that is gone costs a pull no more than this before the next one is asked. Older versions do not know
/// the key, and wait for 30 s.
const DIAL: &str = "1s";

pub(super) fn files(wanted: &Wanted) -> Vec<Made> {
    wanted.upstreams.iter().flat_map(|upstream| of(upstream, wanted)).collect()
}

fn of(upstream: &Upstream, wanted: &Wanted) -> Vec<Made> {
    let (dir, server) = match upstream {
        Upstream::Default => ("_default".to_owned(), None),
        Upstream::Of { host, .. } if host.is_docker() => {
            (host.to_string(), Some("https://registry-1.docker.io".to_owned()))
        }
        Upstream::Of { host, plain } => {
            let scheme = if *plain { "http" } else { "https" };
            (host.to_string(), Some(format!("{scheme}://{host}")))
        }
    };
    let mut text = format!("{MARK}, which overwrites it when it is run again.\n");
    match server {
        Some(server) => {
            let _ = writeln!(
                text,
                "# The registry itself, asked when no mirror has it.\nserver = {}",
                quoted(&server)
            );
        }
        None => text.push_str(
            "# Of every registry without a directory of its own, which is asked when no mirror has it.\n",
        ),
    }
    for mirror in &wanted.mirrors {
        host(&mut text, mirror, wanted);
    }
    let hosts = Made {
        secret: wanted.authorization.is_some(),
        ..Made::new(format!("{dir}/hosts.toml"), text, Replaces::Marked)
    };
    let ca = wanted.ca.as_ref().filter(|_| wanted.mirrors.iter().any(|mirror| mirror.tls));
    let ca = ca.map(|pem| Made::new(format!("{dir}/{CA}"), pem.clone(), Replaces::Any));
    // First what the other file names.
    ca.into_iter().chain([hosts]).collect()
}

fn host(text: &mut String, mirror: &Mirror, wanted: &Wanted) {
    let url = quoted(&mirror.to_string());
    let _ = write!(
        text,
        "\n[host.{url}]\n  capabilities = [\"pull\", \"resolve\"]\n  dial_timeout = {}\n",
        quoted(DIAL)
    );
    if mirror.tls && wanted.ca.is_some() {
        let _ = writeln!(text, "  ca = {}", quoted(CA));
    }
    if let Some(authorization) = &wanted.authorization {
        let _ = write!(text, "  [host.{url}.header]\n    Authorization = {}\n", quoted(authorization));
    }
}

/// As a string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
