//! What each peer acknowledged, so that one whose log went back is noticed.
//!
//! Consensus rests on a log that never loses what it acknowledged. A peer that comes back with an
//! older one runs on a copy of its data directory: it forgot votes as well, and openraft would
//! take its conflicts for a search that never ends. Always holds: only what was acknowledged
//! before a request was sent, under the same vote, speaks against the answer; so an answer that
//! was overtaken, and a log that another leader cut, are no offence. Never does: remember across
//! leaders. The next one knows nothing and brings the peer up to date.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};

use crate::consensus::types::{LogId, TypeConfig, Vote};
use crate::id::NodeId;

/// How often it is said while it lasts.
const COMPLAINT: Duration = Duration::from_secs(10);

/// A peer lost what it had acknowledged.
#[derive(Debug, thiserror::Error)]
#[error(
    "member {peer} lost log entries that it had acknowledged: its data directory is a copy or was put back from \
     an older one; stop it, empty its data directory, and start it again with --join: it joins under a new id"
)]
pub(super) struct WentBack {
    peer: NodeId,
}

/// Of all peers. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Acknowledged(Arc<Mutex<BTreeMap<NodeId, Known>>>);

/// Of one peer, under one vote.
struct Known {
    vote: Vote,
    upto: Option<LogId>,
    told: Option<Instant>,
}

impl Acknowledged {
    /// What `peer` acknowledged so far under `vote`: to be asked before a request is sent.
    pub(super) fn upto(&self, peer: NodeId, vote: &Vote) -> Option<LogId> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&peer).filter(|known| known.vote == *vote).and_then(|known| known.upto)
    }

    /// Notes what the answer to `sent` acknowledges; `before` is what had been when it was sent.
    ///
    /// # Errors
    /// The peer denies what it acknowledged.
    pub(super) fn judge(
        &self,
        peer: NodeId,
        sent: &AppendEntriesRequest<TypeConfig>,
        before: Option<LogId>,
        answer: &AppendEntriesResponse<TypeConfig>,
    ) -> Result<(), WentBack> {
        let stored = match answer {
            AppendEntriesResponse::Success => {
                sent.entries.last().map(|entry| entry.log_id).or(sent.prev_log_id)
            }
            AppendEntriesResponse::PartialSuccess(stored) => *stored,
            AppendEntriesResponse::Conflict => {
                let denied = before.zip(sent.prev_log_id).is_some_and(|(had, prev)| prev.index <= had.index);
                return if denied { Err(self.complain(peer)) } else { Ok(()) };
            }
            AppendEntriesResponse::HigherVote(_) => return Ok(()),
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get_mut(&peer) {
            Some(known) if known.vote == sent.vote => known.upto = known.upto.max(stored),
            _ => {
                known.insert(peer, Known { vote: sent.vote, upto: stored, told: None });
            }
        }
        Ok(())
    }

    fn complain(&self, peer: NodeId) -> WentBack {
        let error = WentBack { peer };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = known.get_mut(&peer).map(|known| &mut known.told);
        if let Some(told) = told.filter(|told| told.is_none_or(|at| at.elapsed() >= COMPLAINT)) {
            *told = Some(Instant::now());
            tracing::error!(%peer, "refused: {error}");
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use openraft::entry::RaftEntry as _;
    use openraft::vote::RaftLeaderIdExt as _;

    use super::*;
    use crate::consensus::types::{Entry, Payload};

    const PEER: NodeId = NodeId(2);

    fn id(index: u64) -> LogId {
        LogId::new(openraft::alias::LeaderIdOf::<TypeConfig>::new_committed(1, 1), index)
    }

    fn sent(
        term: u64,
        prev: u64,
        entries: std::ops::RangeInclusive<u64>,
    ) -> AppendEntriesRequest<TypeConfig> {
        AppendEntriesRequest {
            vote: Vote::new_committed(term, 1),
            prev_log_id: Some(id(prev)),
            leader_commit: None,
            entries: entries.map(|index| Entry::new(id(index), Payload::default())).collect(),
        }
    }

    /// Sends and hears the answer at once.
    fn exchange(
        known: &Acknowledged,
        sent: &AppendEntriesRequest<TypeConfig>,
        answer: AppendEntriesResponse<TypeConfig>,
    ) -> Result<(), WentBack> {
        known.judge(PEER, sent, known.upto(PEER, &sent.vote), &answer)
    }

    use AppendEntriesResponse::{Conflict, PartialSuccess, Success};

    #[test]
    fn who_denies_what_it_acknowledged_went_back() {
        let known = Acknowledged::default();
        exchange(&known, &sent(1, 9, 10..=12), Conflict).expect("nothing was acknowledged yet");
        exchange(&known, &sent(1, 4, 5..=12), PartialSuccess(Some(id(8)))).unwrap();
        exchange(&known, &sent(1, 9, 10..=12), Conflict).expect("9 was not acknowledged");
        exchange(&known, &sent(1, 8, 9..=12), Success).unwrap();
        exchange(&known, &sent(1, 13, 14..=14), Conflict).expect("13 was not acknowledged");
        for prev in [8, 12] {
            let error = exchange(&known, &sent(1, prev, 13..=13), Conflict).expect_err("it was acknowledged");
            assert!(error.to_string().contains("empty its data directory"), "{error}");
        }
    }

    #[test]
    fn an_answer_that_was_overtaken_is_no_offence() {
        let known = Acknowledged::default();
        let slow = sent(1, 9, 10..=10);
        let before = known.upto(PEER, &slow.vote);
        exchange(&known, &sent(1, 4, 5..=12), Success).unwrap();
        known.judge(PEER, &slow, before, &Conflict).expect("it was sent before");
    }

    #[test]
    fn a_log_that_another_leader_cut_is_no_offence() {
        let known = Acknowledged::default();
        exchange(&known, &sent(1, 4, 5..=12), Success).unwrap();
        exchange(&known, &sent(3, 10, 11..=11), Conflict).expect("another leader came between");
        exchange(&known, &sent(3, 5, 6..=11), Success).unwrap();
        exchange(&known, &sent(3, 11, 12..=12), Conflict).expect_err("acknowledged under this vote");
    }
}
