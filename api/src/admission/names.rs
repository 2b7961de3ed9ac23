//! Whose an image is, and under which names it is judged.
//!
//! One image has more than one name where a registry mirrors another: `trow.example.com/f/docker.io/library/nginx`
//! is Docker Hub's nginx. Always holds: content of an upstream is judged as that upstream's, however it is asked
//! for, so that a rule for our own names allows nothing of theirs; no other spelling of a name, be it as it is
//! written, with the port 443, by another of our host names, or as the upstream's content is named here, escapes a
//! rule that denies; and a name of which it is not sure whose content it gets is allowed nothing of the upstream's.
//! Never does: look anything up.

mod here;

use trow_raft::RepoName;

pub(super) use here::Here;

use crate::error::Error;
use crate::pull::resolve::{Named, Namespace, Resolver};
use crate::pull::{Host, ImageName, Prefixes, UpstreamName};

/// The names under which this registry is itself, and what others mean here.
#[derive(Clone, Debug)]
pub(super) struct Names {
    resolver: Resolver,
    hostnames: Vec<String>,
}

/// Whose content it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Own(RepoName),
    Upstream(UpstreamName),
    /// Another registry's, whose name is too long together with the repository's for one of ours.
    Elsewhere,
}

/// What an image stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meant {
    /// The name under which it is judged.
    pub(super) judged: ImageName,
    /// Its other names: what is denied under one of them is denied.
    pub(super) spellings: Vec<ImageName>,
    /// What an image of an upstream is called here, though nobody wrote it so: what a rule denies of that upstream under
    /// one of them is denied.
    pub(super) here: Vec<Here>,
    /// Where its content comes from.
    pub(super) whose: Whose,
}

/// How many names of ours may be left behind.
const WITHIN_MAX: usize = 8;
/// The port that a host without one has.
const DEFAULT_PORT: &str = ":443";

impl Names {
    pub(super) fn new(hostnames: &[String], prefixes: &Prefixes) -> Names {
        Names { resolver: Resolver::new(hostnames, prefixes), hostnames: hostnames.to_vec() }
    }

    /// What `image` stands for; `others` are names of ours that the settings do not have.
    ///
    /// # Errors
    /// It is below a name that stands for registries, and names nothing there; or it is too long without the port
    /// that its registry has anyway.
    pub(super) fn meant(&self, image: &ImageName, others: &[String]) -> Result<Meant, String> {
        let named = |is: fn(&str, &Host) -> bool, host: &Host| self.hosts(others).any(|name| is(name, host));
        let (mut spellings, mut here) = (Vec::new(), Vec::new());
        let mut name = image.clone();
        // A name that is left behind is longer than the one it stands for, but for `library/`, which Docker Hub's names
        // get back: with Docker Hub among our names it may lead here again.
        let mut left = 0;
        let whose = loop {
            if !named(is, &name.host) {
                self.is_one_repository(&name)?;
                here = here::names(&self.resolver, &self.parsed(others), &plain(&name)?);
                break elsewhere(&name);
            }
            let upstream = match self.resolver.resolve(&name.path, &Namespace::Own).map_err(said)? {
                Named::Own(repo) => {
                    spellings.extend(self.aliases(&name, others));
                    break Whose::Own(repo);
                }
                Named::Upstream(upstream) => upstream,
            };
            left += 1;
            if left > WITHIN_MAX {
                return Err(format!(
                    "{image} leads from one name of this registry to the next: of server.hostnames, prefixes and \
                     mutate.mirror, one names another registry"
                ));
            }
            spellings.extend(self.aliases(&name, others));
            let there = of(&name, &upstream);
            if !named(is_surely, &name.host) && !self.has_port(&name.host, others) {
                // Whoever else listens at that port gives what they like, which no rule for the upstream is to allow.
                let meant = self.meant(&there, others)?;
                spellings.extend(meant.spellings.into_iter().chain([meant.judged]));
                here = meant.here;
                break elsewhere(&name);
            }
            name = there;
        };
        let judged = plain(&name)?;
        spellings.push(name);
        spellings.retain(|spelling| *spelling != judged);
        spellings.dedup();
        Ok(Meant { judged, spellings, here, whose })
    }

    fn hosts<'a>(&'a self, others: &'a [String]) -> impl Iterator<Item = &'a str> {
        self.hostnames.iter().chain(others).map(String::as_str)
    }

    /// Whether one of our names has this host's port.
    fn has_port(&self, host: &Host, others: &[String]) -> bool {
        let port = host.as_str().split_once(':').map(|(_, port)| port);
        port.is_some() && self.hosts(others).any(|name| name.rsplit_once(':').map(|(_, port)| port) == port)
    }

    /// That `name` stands for the same whether its registry is asked, or we are in its place: whose `ns=` is said beside
    /// a name below its own `f/` means what is below that.
    fn is_one_repository(&self, name: &ImageName) -> Result<(), String> {
        let Some(direct) = UpstreamName::new(name.host.clone(), &name.path) else { return Ok(()) };
        match self.resolver.resolve(&name.path, &Namespace::Other(name.host.clone())).map_err(said)? {
            Named::Upstream(other) if other != direct => Err(format!(
                "a node that pulls through this registry gets {other} by it: name that, if it is what you mean"
            )),
            _ => Ok(()),
        }
    }

    /// A name of ours, by each of our host names.
    fn aliases(&self, name: &ImageName, others: &[String]) -> Vec<ImageName> {
        let by_host = self.parsed(others).into_iter().map(|host| ImageName { host, ..name.clone() });
        std::iter::once(name.clone()).chain(by_host).collect()
    }

    fn parsed(&self, others: &[String]) -> Vec<Host> {
        self.hosts(others).filter_map(|host| host.parse().ok()).collect()
    }
}

/// Whether `name` of ours is that host: whole, or on any port when it says none.
fn is(name: &str, host: &Host) -> bool {
    let without_port = host.as_str().split(':').next().unwrap_or_default();
    is_surely(name, host) || name.eq_ignore_ascii_case(without_port)
}

/// Whether `name` of ours is that host, its port included.
fn is_surely(name: &str, host: &Host) -> bool {
    fn bare(text: &str) -> &str {
        text.strip_suffix(DEFAULT_PORT).unwrap_or(text)
    }
    bare(name).eq_ignore_ascii_case(bare(host.as_str()))
}

/// What another registry has by this name.
fn elsewhere(name: &ImageName) -> Whose {
    UpstreamName::new(name.host.clone(), &name.path).map_or(Whose::Elsewhere, Whose::Upstream)
}

fn said(error: Error) -> String {
    error.message().to_owned()
}

/// The image of an upstream that `name` asks for.
fn of(name: &ImageName, upstream: &UpstreamName) -> ImageName {
    ImageName { host: upstream.host().clone(), path: upstream.repo().clone(), ..name.clone() }
}

/// Without the port that every host has anyway.
fn plain(name: &ImageName) -> Result<ImageName, String> {
    let Some(host) = name.host.as_str().strip_suffix(DEFAULT_PORT) else { return Ok(name.clone()) };
    let host: Host = host.parse().map_err(|why| format!("{host}: {why}"))?;
    let path = host.full(&name.path).ok_or("the name is too long")?;
    Ok(ImageName { host, path, ..name.clone() })
}

#[cfg(test)]
mod tests;
