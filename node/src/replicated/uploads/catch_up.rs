//! Keeping an upload's mirrors at the length of its home.
//!
//! Always holds: after [`Uploads::catch_up`] the session has as many mirrors as the write quorum
//! asks for beside the home, and each has written exactly what the home has.

use std::collections::BTreeMap;

use bytes::Bytes;
use tracing::info;
use trow_raft::{NodeId, Variant};

use super::super::candidates;
use super::super::fault::{peer_fault, store_fault};
use super::super::sessions::{Content, Session, State};
use super::Uploads;
use super::feed::{Feed, PIECE};
use crate::peer_blobs::Upload;
use crate::peer_blobs::wire::{Fault, UploadQuery};
use crate::store::Staged;

impl Uploads {
    /// Brings every mirror level, replacing those that do not answer. What is in `acked` is
    /// believed: the caller has cleared what was not said during the request under way.
    ///
    /// # Errors
    /// [`Fault::Stale`] when one has another home by now; [`Fault::Unavailable`] when too few
    /// members can be reached. What is here stays in both cases.
    pub(super) async fn catch_up(&self, session: &Session, state: &mut State) -> Result<(), Fault> {
        // A request that was dropped in mid-body left it unsaid how far it came.
        self.flush(session, state).await?;
        let State { content, acked, lost, former } = state;
        let Content::Open { staged, .. } = content else { return Err(Fault::Unknown) };
        let (quorum, members) = self.inner.holders()?;
        let wanted = quorum.saturating_sub(1);
        let length = staged.len();
        let known = session.status().mirrors;
        // Whoever is asked may have bytes from now on.
        former.extend(&known);
        let mut lost = std::mem::take(lost);
        let mut caught_up = Vec::new();
        let mut full = None;
        for mirror in known.iter().filter(|mirror| !lost.contains(mirror)) {
            if acked.get(mirror) == Some(&length)
                || self.catch_up_one(session, staged, *mirror, &mut full).await?
            {
                caught_up.push(*mirror);
            }
        }
        let mut asked = known.clone();
        asked.push(self.inner.me);
        let silence = |node| self.inner.peers.silence(node);
        while caught_up.len() < wanted {
            let next = candidates::to_hold(&asked, &[], &members, &silence, session.id.0 as u64);
            let Some(next) = next.into_iter().next().or_else(|| lost.pop()) else {
                // A full disk is what the client should hear of, rather than try again soon.
                return Err(full.unwrap_or_else(|| {
                    let (have, needed) = (caught_up.len() + 1, wanted + 1);
                    let which = "members that must take an upload's bytes can be reached";
                    Fault::unavailable(format_args!("only {have} of {needed} {which}"))
                }));
            };
            asked.push(next);
            former.insert(next);
            if self.catch_up_one(session, staged, next, &mut full).await? {
                caught_up.push(next);
            }
        }
        former.retain(|node| !caught_up.contains(node));
        if caught_up != known {
            session.update(|status| status.mirrors.clone_from(&caught_up));
            if !known.is_empty() {
                info!(upload = %session.id, ?known, now = ?caught_up, bytes = length, "an upload has other mirrors");
            }
        }
        *acked = caught_up.into_iter().map(|mirror| (mirror, length)).collect::<BTreeMap<_, _>>();
        Ok(())
    }

    /// Makes `mirror` one and sends it what it lacks; `false` when it cannot be used. Notes in
    /// `full` when that is because it has no room.
    async fn catch_up_one(
        &self,
        session: &Session,
        staged: &mut Staged,
        mirror: NodeId,
        full: &mut Option<Fault>,
    ) -> Result<bool, Fault> {
        match self.try_catch_up_one(session, staged, mirror).await {
            Ok(()) => Ok(true),
            Err(Fault::Stale { .. }) if self.inner.planted.is(Variant::H2WakingHome) => Ok(true),
            Err(fault @ Fault::Stale { .. }) => Err(fault),
            Err(fault) => {
                info!(%mirror, %fault, upload = %session.id, "a member cannot be the mirror of an upload");
                if matches!(fault, Fault::NoSpace | Fault::TooMany) {
                    *full = Some(fault);
                }
                Ok(false)
            }
        }
    }

    async fn try_catch_up_one(
        &self,
        session: &Session,
        staged: &mut Staged,
        mirror: NodeId,
    ) -> Result<(), Fault> {
        let ticket = self.ticket_text(session);
        let upload = Upload { repo: &session.repo, ticket: &ticket };
        let peers = &self.inner.peers;
        let mut query = UploadQuery::default();
        let mut there = peers.mirror_open(mirror, upload, &query).await.map_err(peer_fault)?.length;
        if there > staged.len() {
            query.reset = true;
            there = peers.mirror_open(mirror, upload, &query).await.map_err(peer_fault)?.length;
        }
        if there == staged.len() {
            return Ok(());
        }
        let feed = Feed::new(peers, mirror, &session.repo, &ticket, there);
        let mut sent = there;
        while sent < staged.len() {
            let piece: Bytes = match staged.read(sent, PIECE).await {
                Ok(piece) if !piece.is_empty() => piece,
                Ok(_) => return Err(Fault::unavailable("the staged file is shorter than what was written")),
                Err(error) => return Err(store_fault(error)),
            };
            sent += piece.len() as u64;
            if !feed.send(peers, piece).await {
                break;
            }
        }
        let reached = feed.finish().await?;
        if reached == staged.len() {
            Ok(())
        } else {
            Err(Fault::unavailable(format_args!("it has {reached} bytes of {}", staged.len())))
        }
    }
}
