//! Having the repository's home find out, wherever that is.

use std::time::Instant;

use bytes::Bytes;
use tracing::debug;
use trow_api::pull::{PullError, Pulled, UpstreamName};
use trow_api::route::Reference;
use trow_raft::{Digest, RepoName};

use super::super::fault::{fault, pull_error};
use super::super::recent::Served;
use super::super::serve_peers::may_tell;
use super::{COLD_WAIT, Manifests, RETRY};
use crate::peer_blobs::PeerError;
use crate::peer_blobs::wire::{AskManifest, Fault, Told};
use crate::upstream::Rules;

impl Manifests {
    /// Asks the home, the next one when it does not answer, and in the end does it itself.
    pub(super) async fn at_home(
        &self,
        name: &UpstreamName,
        reference: &Reference,
        head: bool,
        rules: Rules,
    ) -> Result<Pulled, PullError> {
        let parts = &self.inner.parts;
        let (begun, mut without) = (Instant::now(), Vec::new());
        loop {
            let home = parts.homes.of(name.local().as_str(), &without);
            if home == parts.me || without.contains(&home) {
                return self.find_out(name, reference, head, &rules).await;
            }
            let left = COLD_WAIT.saturating_sub(begun.elapsed());
            if left.is_zero() {
                let why = format!("upstream {}: the node that asks it does not answer", name.host());
                return Err(PullError::Unavailable { why, retry: RETRY });
            }
            let have = self.has_already(name.local(), reference, head)?;
            let (repo, for_user) = (name.local().clone(), self.needs_user(name));
            let question = AskManifest { repo, reference: reference.clone().into(), head, have, for_user };
            match parts.peers.manifest(home, left, &question).await {
                Ok((told, bytes)) => match self.told(name, told, bytes, head)? {
                    Some(pulled) => return Ok(pulled),
                    // What was here a moment ago is not any more.
                    None => without.push(home),
                },
                Err(error @ PeerError::Fault(Fault::Upstream { .. })) => return Err(pull_error(error)),
                Err(error) => {
                    debug!(%home, %error, repo = %name, "the home of a repository does not answer, the next one is asked");
                    without.push(home);
                }
            }
        }
    }

    /// What the tag was here the last time, so that its bytes need not travel.
    fn has_already(
        &self,
        repo: &RepoName,
        reference: &Reference,
        head: bool,
    ) -> Result<Option<Digest>, PullError> {
        let Reference::Tag(tag) = reference else { return Ok(None) };
        if head {
            return Ok(None);
        }
        let Some(row) = self.row(repo, tag)? else { return Ok(None) };
        Ok(self.here(repo, &row.digest)?.map(|here| here.digest))
    }

    /// A peer's word, whose bytes have the digest that it says; none when they are not here, though it was told so.
    fn told(
        &self,
        name: &UpstreamName,
        told: Told,
        bytes: Bytes,
        head: bool,
    ) -> Result<Option<Pulled>, PullError> {
        let Told { digest, media_type, size, index, stale, follows } = told;
        let bytes = match (head, follows) {
            (true, _) => None,
            (false, true) => {
                // What this node is asked for next may lie in memory only, here and there.
                self.inner.recent.put(name.local(), Served::read(name, digest, &media_type, bytes.clone()));
                Some(bytes)
            }
            (false, false) => match self.here(name.local(), &digest)? {
                Some(here) => Some(here.bytes),
                None => return Ok(None),
            },
        };
        Ok(Some(Pulled { digest, media_type, size, bytes, index, stale }))
    }

    /// What a peer asked this node to find out.
    pub(in super::super) async fn for_peer(&self, question: AskManifest) -> Result<Vec<u8>, Fault> {
        let AskManifest { repo, reference, head, have, for_user } = question;
        let name = UpstreamName::of_local(&repo).ok_or(Fault::Unknown)?;
        may_tell(self.upstream(), &name, for_user)?;
        let rules = self.rules(&name).map_err(fault)?;
        let pulled = self.find_out(&name, &reference.into(), head, &rules).await.map_err(fault)?;
        let Pulled { digest, media_type, size, bytes, index, stale } = pulled;
        let bytes = bytes.filter(|_| have != Some(digest));
        let told = Told { digest, media_type, size, index, stale, follows: bytes.is_some() };
        Ok(told.write(&bytes.unwrap_or_default()))
    }
}
