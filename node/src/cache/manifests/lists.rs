//! Having the repository's home list what an upstream has, wherever that is, once for all who ask meanwhile.
//!
//! Always holds: where nobody may be asked, each node lists what is cached itself.

use std::time::Instant;

use tracing::debug;
use trow_api::pull::{PullError, Relayed, UpstreamName};
use trow_raft::Digest;

use super::super::fault::{fault, pull_error};
use super::super::serve_peers::may_tell;
use super::{COLD_WAIT, Manifests, RETRY};
use crate::peer_blobs::PeerError;
use crate::peer_blobs::wire::{AskList, Fault, List, ToldList};

impl Manifests {
    /// The tags, as the upstream lists them; those that are cached when it does not answer.
    ///
    /// # Errors
    /// As [`PullError`] says.
    pub async fn tags(
        &self,
        name: &UpstreamName,
        n: Option<usize>,
        last: Option<&str>,
    ) -> Result<Relayed, PullError> {
        self.list(name, List::Tags { n, last: last.map(str::to_owned) }).await
    }

    /// The referrers of `subject`, as the upstream lists them, by the tag that stands for such a list where it
    /// has no API for them; those that are cached when it does not answer.
    ///
    /// # Errors
    /// As [`PullError`] says.
    pub async fn referrers(
        &self,
        name: &UpstreamName,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Relayed, PullError> {
        let artifact_type = artifact_type.map(str::to_owned);
        self.list(name, List::Referrers { subject: *subject, artifact_type }).await
    }

    /// Asks the home, the next one when it does not answer, and in the end does it itself.
    async fn list(&self, name: &UpstreamName, list: List) -> Result<Relayed, PullError> {
        if self.rules(name)?.offline {
            return self.list_now(name, &list).await;
        }
        let parts = &self.inner.parts;
        let (begun, mut without) = (Instant::now(), Vec::new());
        let question = AskList { repo: name.local().clone(), list, for_user: self.needs_user(name) };
        loop {
            let home = parts.homes.of(name.local().as_str(), &without);
            let left = COLD_WAIT.saturating_sub(begun.elapsed());
            if home == parts.me || without.contains(&home) || left.is_zero() {
                return self.listed_once(name, question.list).await;
            }
            match parts.peers.list(home, left, &question).await {
                Ok((ToldList { next, filtered, stale, .. }, json)) => {
                    return Ok(Relayed { json, next, filtered, stale });
                }
                Err(error @ PeerError::Fault(Fault::Upstream { .. })) => return Err(pull_error(error)),
                Err(error) => {
                    debug!(%home, %error, repo = %name, "the home of a repository lists nothing, the next one is asked");
                    without.push(home);
                }
            }
        }
    }

    /// What comes of the request that is under way, or of a new one.
    async fn listed_once(&self, name: &UpstreamName, list: List) -> Result<Relayed, PullError> {
        let (this, key) = (self.clone(), (name.local().clone(), list.clone()));
        let work = name.clone();
        let flight = self.inner.lists.join(key, move || async move { this.list_now(&work, &list).await });
        flight.within(COLD_WAIT).await.unwrap_or_else(|| {
            let why = format!("upstream {}: no list yet", name.host());
            Err(PullError::Unavailable { why, retry: RETRY })
        })
    }

    /// What a peer asked this node to find out.
    pub(in super::super) async fn list_for_peer(&self, question: AskList) -> Result<Vec<u8>, Fault> {
        let AskList { repo, list, for_user } = question;
        let name = UpstreamName::of_local(&repo).ok_or(Fault::Unknown)?;
        may_tell(self.upstream(), &name, for_user)?;
        let relayed = self.listed_once(&name, list).await.map_err(fault)?;
        let Relayed { json, next, filtered, stale } = relayed;
        Ok(ToldList { size: json.len() as u64, next, filtered, stale }.write(&json))
    }
}
