//! Whose repository a request means: the one place where `ns=`, `f/<host>/…` and prefixes become an
//! [`UpstreamName`].
//!
//! Always holds: every name is either our own or an upstream's, whatever is stored; the names below
//! `f/` and below a prefix, and those themselves, are never our own, so that nothing pushed here
//! can be taken for an upstream's. `ns=` of a registry is what mirror clients mean by the name
//! beside it; a prefix does not apply to that name, since `acme` may be a prefix here and an
//! organisation there. Never does: look anything up, or say whether a registry may be asked.

use std::borrow::Cow;

use serde_json::json;
use trow_raft::RepoName;

use super::name::{Host, ROOT, UpstreamName};
use super::prefixes::Prefixes;
use crate::error::{Error, Problem};
use crate::route::shown;

/// The names that are not ours, by the settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolver {
    hostnames: Vec<String>,
    prefixes: Prefixes,
}

/// Whose `ns=` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Namespace {
    /// There is none, or it is one of our names: ourselves.
    Own,
    /// Another registry's.
    Other(Host),
}

/// What a repository's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// A repository of our own.
    Own(RepoName),
    /// One of an upstream registry.
    Upstream(UpstreamName),
}

impl Resolver {
    pub(crate) fn new(hostnames: &[String], prefixes: &Prefixes) -> Self {
        Resolver { hostnames: hostnames.to_vec(), prefixes: prefixes.clone() }
    }

    /// Reads the value of `ns=`.
    ///
    /// # Errors
    /// `NameInvalid`: it does not name a registry.
    pub(crate) fn namespace(&self, ns: Option<&str>) -> Result<Namespace, Error> {
        let Some(ns) = ns else { return Ok(Namespace::Own) };
        if self.is_own(ns) {
            return Ok(Namespace::Own);
        }
        match ns.parse() {
            Ok(host) => Ok(Namespace::Other(host)),
            Err(why) => Err(invalid(format!("ns: {why}")).detail(json!({ "ns": shown(ns) }))),
        }
    }

    fn is_own(&self, host: &str) -> bool {
        self.hostnames.iter().any(|name| name.eq_ignore_ascii_case(host))
    }

    /// What `repo` stands for in this namespace.
    ///
    /// # Errors
    /// `NameInvalid`: it lies where only upstreams' names are, and is none.
    pub(crate) fn resolve(&self, repo: &RepoName, namespace: &Namespace) -> Result<Named, Error> {
        let rooted = rooted(repo);
        match namespace {
            Namespace::Other(host) => {
                // Clients that are given a path of ours for their mirror say whose content they mean
                // as well. Nobody names a repository after its own registry below an `f`.
                let named = match rooted {
                    Some(Ok(name)) if name.host() == host => Ok(name),
                    _ => upstream(host, repo, repo),
                };
                named.map(Named::Upstream)
            }
            Namespace::Own => match rooted {
                Some(Ok(name)) if self.is_own(name.host().as_str()) => {
                    let why = format!("{} is this registry itself: leave {ROOT}/ and it out", name.host());
                    Err(invalid(why).detail(json!({ "name": repo })))
                }
                Some(name) => name.map(Named::Upstream),
                None => self.prefixed(repo),
            },
        }
    }

    /// The prefixes that stand for a registry.
    pub(crate) fn prefixes_of(&self, host: &Host) -> Vec<String> {
        self.prefixes.of(host).iter().map(ToString::to_string).collect()
    }

    /// The path below `/v2/` that a path means which has the name of a registry before it, as Docker's
    /// daemon asks a mirror whose URL has a path: `/hub/v2/library/nginx/…`, or `/f/docker.io/v2/…`.
    pub(crate) fn moved(&self, path: &str) -> Option<String> {
        let (name, rest) = match path.split_once("/v2/") {
            Some((name, rest)) => (name, rest),
            None => (path.strip_suffix("/v2")?, ""),
        };
        let name = name.strip_prefix('/')?;
        let is_registry = match name.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix('/')) {
            Some(host) => host.parse::<Host>().is_ok(),
            None => name.parse().is_ok_and(|name| self.prefixes.get(&name).is_some()),
        };
        let below = if rest.is_empty() { "/v2/".to_owned() } else { format!("/v2/{name}/{rest}") };
        is_registry.then_some(below)
    }

    fn prefixed(&self, repo: &RepoName) -> Result<Named, Error> {
        // The longest first: of `hub` and `hub/eu` the latter has what is below it.
        let mut name = repo.as_str();
        loop {
            let prefix = name.parse::<RepoName>().ok();
            if let Some(host) = prefix.and_then(|prefix| self.prefixes.get(&prefix)) {
                let rest = repo.as_str()[name.len()..].strip_prefix('/');
                let rest = rest.and_then(|rest| rest.parse::<RepoName>().ok()).ok_or_else(|| {
                    invalid(format!("{name} stands for {host}: a repository of it is {name}/<repository>"))
                        .detail(json!({ "name": repo }))
                })?;
                return upstream(&host, &rest, repo).map(Named::Upstream);
            }
            match name.rsplit_once('/') {
                Some((shorter, _)) => name = shorter,
                None => return Ok(Named::Own(repo.clone())),
            }
        }
    }
}

/// What a name whose first component is `f` stands for; none for any other name.
fn rooted(repo: &RepoName) -> Option<Result<UpstreamName, Error>> {
    let mut components = repo.as_str().split('/');
    (components.next() == Some(ROOT)).then(|| {
        UpstreamName::of_local(repo).ok_or_else(|| {
            invalid(format!("names that begin with {ROOT}/ are {ROOT}/<registry>/<repository>"))
                .detail(json!({ "name": repo }))
        })
    })
}

fn upstream(host: &Host, repo: &RepoName, asked: &RepoName) -> Result<UpstreamName, Error> {
    UpstreamName::new(host.clone(), repo).ok_or_else(|| {
        invalid("the repository's name is too long together with its registry's")
            .detail(json!({ "name": asked, "registry": host.as_str() }))
    })
}

fn invalid(why: impl Into<Cow<'static, str>>) -> Error {
    Error::new(Problem::NameInvalid, why)
}

/// A name as clients write it, as one that is a repository's: below `f/` a registry may have a port
/// and upper-case letters, which no repository's name has. What is no registry stays as it is.
pub(crate) fn spelled(name: &str) -> Cow<'_, str> {
    let host = name.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix('/'));
    let Some((host, repo)) = host.and_then(|rest| rest.split_once('/')) else { return name.into() };
    match host.replace("__", ":").parse::<Host>() {
        Ok(host) => format!("{ROOT}/{}/{repo}", host.as_str().replace(':', "__")).into(),
        Err(_) => name.into(),
    }
}

#[cfg(test)]
mod tests;
