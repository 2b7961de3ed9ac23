//! Manifests of upstream registries: whether what is cached may be given, who asks for what is not, and what
//! becomes of the answer.
//!
//! By digest, what is here is given; what is not is asked for by the repository's home, as everything about a
//! tag is decided there, so that it is asked once for all. Always holds: what comes from a peer or an upstream
//! has the digest that it goes by; an answer about a tag that may be too old is marked; whoever asks waits for no
//! log. Never does: judge who may have it.

mod ask;
mod fetch;
mod here;
mod home;
mod lists;
mod peers;
#[cfg(test)]
mod tests;

pub(super) use ask::pull_error;

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use trow_api::pull::{PullError, Pulled, Relayed, UpstreamName};
use trow_api::route::Reference;
use trow_raft::{Digest, Member, NodeId, RepoName, StateError, View};

use super::flights::Flights;
use super::freshness::Policy;
use super::homes::Homes;
use super::meter::Meter;
use super::origins::Origins;
use super::recent::{Recent, Served};
use super::record::{Recorder, Wanted};
use super::words::Words;
use crate::forget::Asked;
use crate::peer_blobs::PeerBlobs;
use crate::peer_blobs::wire::List;
use crate::replicated::Agreement;
use crate::store::Store;
use crate::upstream::{Registries, Rules};

/// How long somebody waits for an upstream who can be given what is cached.
const REFRESH_WAIT: Duration = Duration::from_secs(2);
/// How long somebody waits who cannot: clients give up after 30 s without a reply.
const COLD_WAIT: Duration = Duration::from_secs(25);
/// When to come back who waited in vain.
const RETRY: Duration = Duration::from_secs(5);
/// Bytes of manifests in memory.
const RECENT_BYTES: usize = 64 << 20;
/// References whose freshness is remembered.
const WORDS: usize = 32 << 10;

/// Says what time it is.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// The manifests, as this node knows and asks for them. Cheap to clone.
#[derive(Clone)]
pub struct Manifests {
    inner: Arc<Inner>,
}

/// What [`Manifests`] are made of.
pub struct Parts {
    /// This node.
    pub me: NodeId,
    /// Its blobs.
    pub store: Store,
    /// What the cluster agreed on.
    pub agreed: Agreement,
    /// The other nodes.
    pub peers: PeerBlobs,
    /// Who asks an upstream.
    pub homes: Homes,
    /// The upstreams.
    pub upstream: Registries,
    /// Of this node.
    pub clock: Clock,
}

struct Inner {
    parts: Parts,
    words: Words,
    recent: Recent,
    asks: Flights<(RepoName, Reference), Result<(), PullError>>,
    fetches: Flights<(RepoName, Digest), Result<Served, PullError>>,
    lists: Flights<(RepoName, List), Result<Relayed, PullError>>,
    recorder: Recorder,
    asked: Asked,
    meter: Meter,
    origins: Origins,
}

impl Manifests {
    /// Over its parts. Needs a Tokio runtime.
    pub fn new(parts: Parts) -> Manifests {
        let meter = Meter::default();
        let inner = Inner {
            words: Words::new(WORDS),
            recent: Recent::new(RECENT_BYTES),
            asks: Flights::default(),
            fetches: Flights::default(),
            lists: Flights::default(),
            recorder: Recorder::new(parts.agreed.clone(), meter.clone()),
            asked: Asked::new(parts.agreed.clone()),
            origins: Origins::new(parts.store.clone(), parts.upstream.clone()),
            meter,
            parts,
        };
        Manifests { inner: Arc::new(inner) }
    }

    /// Shows what is counted here, and of the upstreams, at each scrape.
    pub fn register(&self, registry: &mut Registry) {
        self.inner.meter.register(registry);
        self.upstream().register(registry);
    }

    /// A manifest; without its bytes when `head`.
    ///
    /// # Errors
    /// As [`PullError`] says.
    pub async fn manifest(
        &self,
        name: &UpstreamName,
        reference: &Reference,
        head: bool,
    ) -> Result<Pulled, PullError> {
        let rules = self.rules(name)?;
        let pulled = match reference {
            Reference::Digest(digest) => match self.here(name.local(), digest)? {
                Some(here) => {
                    // What was purged, or came when nothing could be recorded, is recorded when it is asked for.
                    if here.recorded.is_none() {
                        self.record(name, Wanted::manifest(*digest));
                    }
                    Ok(here.pulled(head))
                }
                None => self.at_home(name, reference, head, rules).await,
            },
            Reference::Tag(_) => self.at_home(name, reference, head, rules).await,
        };
        self.inner.meter.answered(&pulled);
        if let Ok(pulled) = &pulled {
            self.inner.asked.note(name.local(), &pulled.digest);
        }
        pulled
    }

    /// Whether what is behind the name is fetched with credentials that do not count as everybody's.
    pub fn needs_user(&self, name: &UpstreamName) -> bool {
        self.inner.parts.upstream.needs_user(name)
    }

    /// The same of an upstream's repository as it is named here.
    pub(super) fn for_user(&self, repo: &RepoName) -> bool {
        UpstreamName::of_local(repo).is_some_and(|name| self.needs_user(&name))
    }

    /// The settings for a repository that may be asked for.
    pub(super) fn rules(&self, name: &UpstreamName) -> Result<Rules, PullError> {
        let rules = self.inner.parts.upstream.rules(name);
        match &rules.allowed {
            Ok(()) => Ok(rules),
            Err(why) => Err(PullError::Denied(why.clone())),
        }
    }

    /// Which of the others are healthy.
    pub(super) fn others(&self) -> Vec<NodeId> {
        let Parts { me, homes, .. } = &self.inner.parts;
        homes.healthy().into_iter().filter(|node| node != me).collect()
    }

    pub(super) fn me(&self) -> NodeId {
        self.inner.parts.me
    }

    pub(super) fn members(&self) -> Result<Vec<Member>, StateError> {
        (self.inner.parts.agreed.view)()?.members()
    }

    pub(super) fn store(&self) -> &Store {
        &self.inner.parts.store
    }

    pub(super) fn origins(&self) -> &Origins {
        &self.inner.origins
    }

    pub(super) fn peers(&self) -> &PeerBlobs {
        &self.inner.parts.peers
    }

    pub(super) fn upstream(&self) -> &Registries {
        &self.inner.parts.upstream
    }

    pub(super) fn recent(&self) -> &Recent {
        &self.inner.recent
    }

    fn now(&self) -> Instant {
        (self.inner.parts.clock)()
    }

    pub(super) fn view(&self) -> Result<View, PullError> {
        (self.inner.parts.agreed.view)().map_err(failed)
    }
}

/// What the rule of freshness needs of the settings.
fn policy(rules: &Rules) -> Policy {
    Policy { offline: rules.offline, freshness: rules.freshness, follow_deletes: rules.follow_deletes }
}

/// The state cannot be read, which ends the process elsewhere.
pub(super) fn failed(error: StateError) -> PullError {
    tracing::error!(cause = %error, "the state cannot be read, and a pull failed; if it repeats, check the disk and start the node again");
    PullError::Failed
}
