//! Names of upstream registries and of what they have.
//!
//! A repository of an upstream has one name here whatever way it was asked for, by `ns=`, below `f/` or below a
//! prefix: `f/<host>/<repository>`, with `library/` added for docker.io. A port is written `__5000` in it, since
//! repository names have no colon and host names no underscore.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::Arc;

use trow_raft::RepoName;

/// The first component of the names of all repositories that belong to upstreams.
pub const ROOT: &str = "f";
/// The registry whose official images lie below `library/`.
const DOCKER: &str = "docker.io";
/// Other names of it that clients send.
const DOCKER_TOO: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// An upstream registry as clients call it: a lower-case host name or IPv4 address, with a port or without.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Arc<str>);

/// The text does not name a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a registry is named by a host name or IPv4 address of letters, digits, '-' and '.', and a port if need be, such \
     as docker.io or registry.example.com:5000"
)]
pub struct InvalidHost;

impl Host {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the names of all its repositories begin with here: `f/<host>/`.
    pub fn local_prefix(&self) -> String {
        format!("{ROOT}/{}/", self.0.replace(':', "__"))
    }

    /// Docker Hub, whose endpoint has another name and whose official images lie below `library/`.
    pub fn is_docker(&self) -> bool {
        &*self.0 == DOCKER
    }

    /// What the repository is called there that people call `repo`; none when that is too long.
    pub(crate) fn full(&self, repo: &RepoName) -> Option<RepoName> {
        let official = self.is_docker() && !repo.as_str().contains('/');
        if official { format!("library/{repo}").parse().ok() } else { Some(repo.clone()) }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Host {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let lower = text.to_ascii_lowercase();
        let (name, port) = match lower.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (lower.as_str(), None),
        };
        let label = |label: &str| {
            let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            plain
                && !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let number = |port: &str| {
            let plain = !port.starts_with('0') && port.bytes().all(|b| b.is_ascii_digit());
            plain && port.parse::<u16>().is_ok()
        };
        if name.len() > 200 || !name.split('.').all(label) || !port.is_none_or(number) {
            return Err(InvalidHost);
        }
        // Some resolvers take 127.1 or 0x7f.1 for the address 127.0.0.1, which rules and settings name in one way.
        if is_number(name.rsplit('.').next().unwrap_or(name)) && name.parse::<Ipv4Addr>().is_err() {
            return Err(InvalidHost);
        }
        let name = if port.is_none() && DOCKER_TOO.contains(&name) { DOCKER } else { &*lower };
        Ok(Host(name.into()))
    }
}

/// Whether a label is one that only addresses end with.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    hex || label.bytes().all(|b| b.is_ascii_digit())
}

/// A repository of an upstream registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamName {
    host: Host,
    repo: RepoName,
    local: RepoName,
}

impl UpstreamName {
    /// The repository that clients call `repo` at `host`; none when the whole is too long for a name.
    pub fn new(host: Host, repo: &RepoName) -> Option<UpstreamName> {
        let repo = host.full(repo)?;
        let local = format!("{}{repo}", host.local_prefix()).parse().ok()?;
        Some(UpstreamName { host, repo, local })
    }

    /// The one that `local` is the name of here, if it is of an upstream's repository.
    pub fn of_local(local: &RepoName) -> Option<UpstreamName> {
        let rest = local.as_str().strip_prefix(ROOT)?.strip_prefix('/')?;
        let (host, repo) = rest.split_once('/')?;
        UpstreamName::new(host.replace("__", ":").parse().ok()?, &repo.parse().ok()?)
    }

    /// The registry.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// What the registry itself calls the repository.
    pub fn repo(&self) -> &RepoName {
        &self.repo
    }

    /// What the repository is called in the state: `f/<host>/<repository>`.
    pub fn local(&self) -> &RepoName {
        &self.local
    }
}

impl fmt::Display for UpstreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(host: &str, repo: &str) -> UpstreamName {
        UpstreamName::new(host.parse().unwrap(), &repo.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_repository_has_one_name_here() {
        for (host, repo, local) in [
            ("docker.io", "nginx", "f/docker.io/library/nginx"),
            ("Docker.IO", "library/nginx", "f/docker.io/library/nginx"),
            ("index.docker.io", "acme/app", "f/docker.io/acme/app"),
            ("registry-1.docker.io", "nginx", "f/docker.io/library/nginx"),
            ("quay.io", "nginx", "f/quay.io/nginx"),
            ("localhost:5001", "a/b", "f/localhost__5001/a/b"),
            ("127.0.0.1:5001", "a", "f/127.0.0.1__5001/a"),
        ] {
            let name = name(host, repo);
            assert_eq!(name.local().as_str(), local);
            assert!(name.local().is_cached() && local.starts_with(&name.host().local_prefix()));
            assert_eq!(UpstreamName::of_local(name.local()), Some(name));
        }
        for own in ["f", "f/docker.io", "app/f/docker.io/x", "library/nginx"] {
            assert_eq!(UpstreamName::of_local(&own.parse().unwrap()), None, "{own}");
        }
    }

    #[test]
    fn hosts_are_names_and_nothing_else() {
        for bad in [
            "",
            ".",
            "a..b",
            "-a",
            "a-",
            "a_b",
            "a/b",
            "a:b",
            "a:0",
            "a:00080",
            "a:65536",
            "a:1:2",
            "[::1]:5000",
            "user@host",
            "http://host",
            "a b",
            "ä.example",
            "a.",
            "host:",
            ":5000",
            "127.1",
            "127.1:5000",
            "127.0.0.01",
            "127.0.0.1.",
            "127.0.0.256",
            "1.2.3.4.5",
            "2130706433",
            "0x7f000001:5000",
            "0x7f.1",
            "0x",
            "registry.1",
        ] {
            assert!(bad.parse::<Host>().is_err(), "{bad:?} accepted");
        }
        for good in ["127.0.0.1", "10.0.0.1:5000", "1.example", "0x7f.example", "a.0x7g", "f", "localhost"] {
            assert!(good.parse::<Host>().is_ok(), "{good:?} refused");
        }
    }
}
