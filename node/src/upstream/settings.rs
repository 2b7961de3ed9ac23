//! What is configured of upstream registries.
//!
//! Always holds: a host without settings of its own has those of everybody. Never does: read or check a
//! configuration, which is that module's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use trow_api::pull::{Host, UpstreamName};

use trow_api::pattern::Pattern;

/// Where Docker Hub's registry is.
const DOCKER_ENDPOINT: &str = "https://registry-1.docker.io";

/// Of all upstreams.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpstreamSettings {
    /// Whether nobody is to be asked.
    pub offline: bool,
    /// What may be asked for, as `<host>/<repository>`.
    pub repositories: Repositories,
    /// Of hosts that are not named.
    pub everybody: HostSettings,
    /// Of those that are.
    pub hosts: BTreeMap<Host, HostSettings>,
    /// First components of repository names that stand for one of them.
    pub prefixes: BTreeMap<String, Host>,
}

/// Which repositories may be asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Repositories {
    /// One of these must match,
    pub allow: Vec<Pattern>,
    /// and none of these.
    pub deny: Vec<Pattern>,
}

/// Of one upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct HostSettings {
    /// Where the registry is; the usual place when none is given.
    pub endpoint: Option<Url>,
    /// Whether plain HTTP is meant.
    pub insecure: bool,
    /// Whether it may be at a private address, and lead to one.
    pub allow_private: bool,
    /// PEM file of further CAs that are trusted.
    pub ca: Option<PathBuf>,
    /// Credentials: a dockerconfigjson.
    pub auth_file: Option<PathBuf>,
    /// `host` or `host:port` of token services that may have the credentials besides its own.
    pub realms: Vec<String>,
    /// Whether what the credentials can see may be pulled by everybody.
    pub public: bool,
    /// Which of its repositories may be asked for.
    pub repositories: Repositories,
    /// How long a tag is believed.
    pub freshness: Duration,
    /// Whether a tag that it deleted goes here too.
    pub follow_deletes: bool,
    /// Requests per second; 0 is no limit.
    pub rate: u64,
    /// Requests at once.
    pub concurrency: u64,
    /// How long a connection, the head of an answer, or the next byte of a body may take.
    pub timeout: Duration,
}

impl Default for Repositories {
    fn default() -> Self {
        Repositories { allow: vec![Pattern::anything()], deny: Vec::new() }
    }
}

impl Default for HostSettings {
    fn default() -> Self {
        HostSettings {
            endpoint: None,
            insecure: false,
            allow_private: false,
            ca: None,
            auth_file: None,
            realms: Vec::new(),
            public: false,
            repositories: Repositories::default(),
            freshness: Duration::from_secs(300),
            follow_deletes: false,
            rate: 0,
            concurrency: 32,
            timeout: Duration::from_secs(10),
        }
    }
}

impl UpstreamSettings {
    /// Those of a host.
    pub fn of(&self, host: &Host) -> &HostSettings {
        self.hosts.get(host).unwrap_or(&self.everybody)
    }

    /// The files of credentials.
    pub(super) fn auth_files(&self) -> impl Iterator<Item = &Path> {
        let own = self.hosts.values().filter_map(|host| host.auth_file.as_deref());
        self.everybody.auth_file.as_deref().into_iter().chain(own)
    }

    /// The files of authorities.
    pub(super) fn authorities(&self) -> impl Iterator<Item = &Path> {
        self.hosts.values().filter_map(|host| host.ca.as_deref())
    }

    /// Whether a repository may be asked for, or why not.
    ///
    /// # Errors
    /// For the client: which rule, not how it reads.
    pub fn allows(&self, name: &UpstreamName) -> Result<(), String> {
        let whole = name.to_string();
        self.repositories
            .allows(&whole, "upstream")
            .map_err(|why| format!("upstream {}: {why}", name.host()))?;
        let section = format!("upstream.{:?}", name.host().as_str());
        let own =
            self.hosts.get(name.host()).map(|own| own.repositories.allows(name.repo().as_str(), &section));
        own.unwrap_or(Ok(())).map_err(|why| format!("upstream {}: {why}", name.host()))
    }
}

impl Repositories {
    fn allows(&self, repository: &str, section: &str) -> Result<(), String> {
        if self.deny.iter().any(|pattern| pattern.matches(repository)) {
            return Err(format!("{repository} may not be pulled through this registry ({section}.deny)"));
        }
        if !self.allow.iter().any(|pattern| pattern.matches(repository)) {
            return Err(format!(
                "{repository} is not among what may be pulled through this registry ({section}.allow)"
            ));
        }
        Ok(())
    }
}

impl HostSettings {
    /// Where the registry is that clients call `host`.
    pub fn endpoint_of(&self, host: &Host) -> Option<Url> {
        let usual = || match host.is_docker() {
            true => DOCKER_ENDPOINT.parse().ok(),
            false => format!("https://{host}").parse().ok(),
        };
        self.endpoint.clone().or_else(usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UpstreamName {
        let (host, repo) = text.split_once('/').unwrap();
        UpstreamName::new(host.parse().unwrap(), &repo.parse().unwrap()).unwrap()
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn deny_wins_and_both_levels_must_allow() {
        let own =
            Repositories { allow: patterns(&["library/*", "acme/**"]), deny: patterns(&["library/old-*"]) };
        let docker = HostSettings { repositories: own, ..HostSettings::default() };
        let settings = UpstreamSettings {
            repositories: Repositories {
                allow: patterns(&["docker.io/**", "ghcr.io/acme/*"]),
                deny: patterns(&["**/secret"]),
            },
            hosts: [("docker.io".parse().unwrap(), docker)].into(),
            ..UpstreamSettings::default()
        };
        for allowed in ["docker.io/nginx", "docker.io/acme/a/b", "ghcr.io/acme/app"] {
            assert_eq!(settings.allows(&name(allowed)), Ok(()), "{allowed}");
        }
        for (denied, rule) in [
            ("docker.io/old-nginx", "upstream.\"docker.io\".deny"),
            ("docker.io/other/app", "upstream.\"docker.io\".allow"),
            ("docker.io/acme/secret", "upstream.deny"),
            ("ghcr.io/acme/a/b", "upstream.allow"),
            ("ghcr.io/acme2/app", "upstream.allow"),
            ("docker.io.example.com/library/nginx", "upstream.allow"),
        ] {
            let why = settings.allows(&name(denied)).unwrap_err();
            assert!(why.contains(rule), "{denied}: {why}");
        }
    }

    #[test]
    fn endpoints_are_where_registries_are_unless_said_otherwise() {
        let at = |settings: &HostSettings, host: &str| {
            settings.endpoint_of(&host.parse().unwrap()).unwrap().to_string()
        };
        let default = HostSettings::default();
        assert_eq!(at(&default, "docker.io"), "https://registry-1.docker.io/");
        assert_eq!(at(&default, "quay.io"), "https://quay.io/");
        assert_eq!(at(&default, "registry.example.com:5000"), "https://registry.example.com:5000/");
        let own = HostSettings { endpoint: "http://127.0.0.1:1/sub".parse().ok(), ..default };
        assert_eq!(at(&own, "docker.io"), "http://127.0.0.1:1/sub");
    }
}
