//! Settings of upstream registries: `[upstream]`, its tables per host, and `[prefixes]`.
//!
//! Always holds: a host's table begins as `[upstream]` says and changes what it states. Never does: ask a registry.

use std::path::PathBuf;

use trow_api::pull::Host;
use trow_raft::RepoName;

use super::check::{is_host, is_host_port};
use super::reader::{Reader, shown};
use super::tree::Config;
use crate::upstream::{HostSettings, Repositories, UpstreamSettings, credentials, trust};

/// The first component of names of upstreams' repositories, which no prefix can be.
const ROOT: &str = trow_api::pull::name::ROOT;
/// The most requests at once that can be asked for.
const CONCURRENCY_MAX: u64 = 10_000;

/// Asks for every setting.
pub(super) fn read(r: &mut Reader) -> UpstreamSettings {
    let default = UpstreamSettings::default();
    let everybody = shared(r, &["upstream"], &default.everybody);
    let mut settings = UpstreamSettings {
        offline: r.or("upstream.offline", default.offline),
        repositories: repositories(r, &["upstream"]),
        everybody,
        prefixes: r.map("prefixes"),
        ..default
    };
    for table in r.tables("upstream") {
        let own = host(r, &table, &settings.everybody);
        let key = shown(&["upstream".to_owned(), table.clone()]);
        match table.parse::<Host>() {
            Err(error) => r.problem(key, error.to_string()),
            Ok(host) => {
                if settings.hosts.insert(host.clone(), own).is_some() {
                    r.problem(key, format!("is {host}, which has another table"));
                }
            }
        }
    }
    settings
}

/// What can be said for all hosts and for each.
fn shared(r: &mut Reader, at: &[&str], default: &HostSettings) -> HostSettings {
    let path = |key: &str| at.iter().chain(&[key]).map(|part| (*part).to_owned()).collect::<Vec<_>>();
    HostSettings {
        auth_file: file(r, &path("auth_file")).unwrap_or_else(|| default.auth_file.clone()),
        public: r.at(&path("public")).unwrap_or(default.public),
        freshness: r.at(&path("freshness")).unwrap_or(default.freshness),
        follow_deletes: r.at(&path("follow_deletes")).unwrap_or(default.follow_deletes),
        rate: r.at(&path("rate")).unwrap_or(default.rate),
        concurrency: r.at(&path("concurrency")).unwrap_or(default.concurrency),
        timeout: r.at(&path("timeout")).unwrap_or(default.timeout),
        ..HostSettings::default()
    }
}

fn host(r: &mut Reader, host: &str, everybody: &HostSettings) -> HostSettings {
    let at = ["upstream", host];
    let path = |key: &str| ["upstream".to_owned(), host.to_owned(), key.to_owned()];
    HostSettings {
        endpoint: r.at(&path("endpoint")),
        insecure: r.at(&path("insecure")).unwrap_or(false),
        allow_private: r.at(&path("allow_private")).unwrap_or(false),
        ca: file(r, &path("ca")).unwrap_or(None),
        realms: r.at(&path("realms")).unwrap_or_default(),
        repositories: repositories(r, &at),
        ..shared(r, &at, everybody)
    }
}

fn repositories(r: &mut Reader, at: &[&str]) -> Repositories {
    let path = |key: &str| at.iter().chain(&[key]).map(|part| (*part).to_owned()).collect::<Vec<_>>();
    let default = Repositories::default();
    Repositories {
        allow: r.at(&path("allow")).unwrap_or(default.allow),
        deny: r.at(&path("deny")).unwrap_or(default.deny),
    }
}

/// A file that an empty text says there is none of.
fn file(r: &mut Reader, path: &[String]) -> Option<Option<PathBuf>> {
    let text: String = r.at(path)?;
    Some((!text.is_empty()).then(|| text.into()))
}

/// Checks the rules between these settings, and the files that they name.
pub(super) fn rules(config: &Config, r: &mut Reader) {
    let upstream = &config.upstream;
    limits(r, &["upstream"], &upstream.everybody, None);
    if let Some(Err(why)) = upstream.everybody.auth_file.as_deref().map(credentials::read) {
        r.problem("upstream.auth_file", why);
    }
    for (host, own) in &upstream.hosts {
        let key = |key: &str| shown(&["upstream".to_owned(), host.to_string(), key.to_owned()]);
        if own.endpoint.as_ref().is_some_and(|url| url.scheme() == "http") && !own.insecure {
            r.problem(key("endpoint"), "is plain http: set insecure = true if that is meant");
        }
        limits(r, &["upstream", host.as_str()], own, Some(&upstream.everybody));
        if let Some(Err(why)) = own.ca.as_deref().map(trust::read) {
            r.problem(key("ca"), why);
        }
        let own_file = own.auth_file.as_deref().filter(|_| own.auth_file != upstream.everybody.auth_file);
        if let Some(Err(why)) = own_file.map(credentials::read) {
            r.problem(key("auth_file"), why);
        }
        for realm in own.realms.iter().filter(|realm| !is_host(realm) && !is_host_port(realm)) {
            r.problem(
                key("realms"),
                format!("expected a token service's host, with a port if need be, not {realm:?}"),
            );
        }
    }
    prefixes(config, r);
}

/// Checks the names that stand for registries.
pub(super) fn prefixes(config: &Config, r: &mut Reader) {
    for (prefix, host) in &config.upstream.prefixes {
        let key = shown(&["prefixes".to_owned(), prefix.clone()]);
        if config.server.hostnames.iter().any(|own| own.parse().is_ok_and(|own: Host| own == *host)) {
            r.problem(key.clone(), format!("{host} is this registry itself, by server.hostnames"));
        }
        if prefix == ROOT {
            r.problem(key, format!("all upstreams' repositories are below {ROOT}/: choose another name"));
        } else if prefix.parse::<RepoName>().is_err() || prefix.contains('/') {
            r.problem(key, "is not the first component of a repository name");
        }
    }
}

/// What is wrong for everybody already is said once.
fn limits(r: &mut Reader, at: &[&str], host: &HostSettings, everybody: Option<&HostSettings>) {
    let key = |key: &str| shown(&at.iter().chain(&[key]).map(|part| (*part).to_owned()).collect::<Vec<_>>());
    let is_own =
        |same: fn(&HostSettings, &HostSettings) -> bool| everybody.is_none_or(|all| !same(host, all));
    if !(1..=CONCURRENCY_MAX).contains(&host.concurrency) && is_own(|a, b| a.concurrency == b.concurrency) {
        r.problem(key("concurrency"), format!("expected 1 to {CONCURRENCY_MAX} requests at once"));
    }
    if host.timeout.is_zero() && is_own(|a, b| a.timeout == b.timeout) {
        r.problem(key("timeout"), "must be more than 0s, or no answer is waited for");
    }
}
