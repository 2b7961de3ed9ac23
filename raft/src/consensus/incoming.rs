//! Requests of other members, into openraft's types.
//!
//! openraft asserts what its own protocol guarantees, and a failed assertion ends the process. A
//! member that is broken, or whose key was stolen, keeps to no protocol. Always holds: what leaves
//! here has the form that a member of the protocol gives it, its numbers can be counted on from,
//! its entries decode, and it does not touch what is committed here. Never does: judge who sent it.

use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};

use super::types::{LogId, SnapshotMeta, TypeConfig, Vote};
use super::wire::{self, WireError};
use crate::codec::{self, CodecError};
use crate::proto::raft as pb;

/// No log and no term gets here, at a million a second for a hundred thousand years.
const COUNT_MAX: u64 = 1 << 62;

/// No member's term is ahead of another's by so much: an election takes a second.
const JUMP_MAX: u64 = 1 << 32;

/// No member of the protocol sends this.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Forged {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("its vote is not one that {0} has")]
    Vote(&'static str),
    #[error("its {0} is beyond what any log reaches")]
    Beyond(&'static str),
    #[error("its {0} is of a later leader than its vote")]
    Later(&'static str),
    #[error("its entries do not follow one another")]
    Order,
    #[error("an entry cannot be applied: {0}")]
    Entry(#[from] CodecError),
    #[error("an entry cannot be applied: {}", .0.why)]
    Newer(Newer),
    #[error("it contradicts what is committed here")]
    Committed,
}

/// Entries of which one holds what a later version may have written.
#[derive(Debug)]
pub(crate) struct Newer {
    vote: Vote,
    /// The entry before the first of them.
    prev: Option<LogId>,
    /// Where the one that this version does not know would be.
    pub(crate) at: u64,
    pub(crate) why: CodecError,
}

impl Newer {
    /// Whether it is the leader of `vote` that sends it, to where the log after `committed` and up
    /// to `last` goes on. A leader sends the same again and again, and its log cannot do without.
    pub(crate) fn continues(&self, vote: &Vote, committed: Option<LogId>, last: Option<u64>) -> bool {
        let follows = vote.committed && self.vote == *vote;
        follows && self.is_attached(last) && committed.is_none_or(|id| self.at > id.index)
    }

    /// Whether it is the leader of `vote` that sends it, to a place that the log up to `last` does
    /// not reach.
    pub(crate) fn is_later(&self, vote: &Vote, last: Option<u64>) -> bool {
        vote.committed && self.vote == *vote && !self.is_attached(last)
    }

    fn is_attached(&self, last: Option<u64>) -> bool {
        self.prev.is_none_or(|prev| last.is_some_and(|last| prev.index <= last))
    }

    /// The place without the entries: nothing of them gets into the log.
    pub(crate) fn place(self) -> AppendEntriesRequest<TypeConfig> {
        AppendEntriesRequest {
            vote: self.vote,
            prev_log_id: self.prev,
            entries: Vec::new(),
            leader_commit: None,
        }
    }
}

/// A log id by leader first, as leaders follow one another.
fn leader_of(id: &LogId) -> (u64, u64) {
    (id.leader_id.term, id.leader_id.node_id)
}

fn vote(vote: Option<pb::Vote>, committed: bool, whose: &'static str) -> Result<Vote, Forged> {
    let vote = wire::vote_from(vote)?;
    if vote.committed != committed {
        return Err(Forged::Vote(whose));
    }
    if vote.leader_id.term >= COUNT_MAX {
        return Err(Forged::Beyond("term"));
    }
    Ok(vote)
}

/// The vote in a reply to something that was sent with the vote `sent`: that of a candidate or of
/// a leader. Nobody but this node knows that this node leads a later term.
pub(crate) fn seen_vote(seen: Option<pb::Vote>, sent: &Vote) -> Result<Vote, Forged> {
    let committed = seen.is_some_and(|vote| vote.committed);
    let seen = vote(seen, committed, "a member")?;
    reachable(&seen, sent.leader_id.term)?;
    let mine = seen.leader_id.node_id == sent.leader_id.node_id;
    if committed && mine && seen.leader_id.term > sent.leader_id.term {
        return Err(Forged::Vote("another member"));
    }
    Ok(seen)
}

/// Whether a node whose term is `term` can meet this vote: after one at the end of all terms there
/// would be no election any more.
pub(crate) fn reachable(vote: &Vote, term: u64) -> Result<(), Forged> {
    match vote.leader_id.term > term.saturating_add(JUMP_MAX) {
        true => Err(Forged::Beyond("term")),
        false => Ok(()),
    }
}

fn log_id(id: pb::LogId, vote: &Vote, what: &'static str) -> Result<LogId, Forged> {
    judge(wire::log_id_from(id), vote, what)
}

fn judge(id: LogId, vote: &Vote, what: &'static str) -> Result<LogId, Forged> {
    if id.index >= COUNT_MAX {
        return Err(Forged::Beyond(what));
    }
    if leader_of(&id) > (vote.leader_id.term, vote.leader_id.node_id) {
        return Err(Forged::Later(what));
    }
    Ok(id)
}

/// Entries of a leader, or its heartbeat.
pub(crate) fn append(request: pb::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Forged> {
    let vote = vote(request.vote, true, "a leader")?;
    let prev = request.prev.map(|id| log_id(id, &vote, "previous entry")).transpose()?;
    let (mut last, mut entries) = (prev, Vec::with_capacity(request.entries.len()));
    for bytes in request.entries {
        let at = last.map_or(0, |last| last.index + 1);
        let newer = |why| Forged::Newer(Newer { vote, prev, at, why });
        let entry = match wire::decode_entry(bytes) {
            Err(WireError::Newer) => return Err(newer(CodecError::Unknown { what: "a field" })),
            decoded => decoded?,
        };
        let id = judge(entry.log_id, &vote, "entry")?;
        let follows = match &last {
            Some(last) => id.index == last.index + 1 && leader_of(&id) >= leader_of(last),
            None => id.index == 0,
        };
        if !follows {
            return Err(Forged::Order);
        }
        // Once it is stored and committed, one that cannot be applied ends every process for good.
        if let Some(envelope) = &entry.payload.envelope {
            codec::decode_envelope(envelope.0.clone())
                .map_err(|error| if error.is_newer() { newer(error) } else { error.into() })?;
        }
        last = Some(id);
        entries.push(entry);
    }
    let leader_commit = request.commit.map(|id| log_id(id, &vote, "commit")).transpose()?;
    Ok(AppendEntriesRequest { vote, prev_log_id: prev, entries, leader_commit })
}

/// Leaves out what is `committed` here already. A leader sends it again when it does not know how
/// far this node is; what is committed is the same in every log, and consensus cuts the log back
/// for anything else.
pub(crate) fn beyond(
    committed: Option<LogId>,
    mut request: AppendEntriesRequest<TypeConfig>,
) -> Result<AppendEntriesRequest<TypeConfig>, Forged> {
    let Some(committed) = committed else { return Ok(request) };
    let (known, next) = (committed.index, request.prev_log_id.map_or(0, |id| id.index + 1));
    if next > known + 1 {
        return Ok(request);
    }
    let at_known = match request.prev_log_id {
        Some(prev) if prev.index == known => Some(prev),
        _ => request.entries.iter().map(|entry| entry.log_id).find(|id| id.index == known),
    };
    if at_known.is_some_and(|id| id != committed) {
        return Err(Forged::Committed);
    }
    request.entries.retain(|entry| entry.log_id.index > known);
    request.prev_log_id = Some(committed);
    Ok(request)
}

/// A candidate's question.
pub(crate) fn candidacy(request: pb::VoteRequest) -> Result<VoteRequest<TypeConfig>, Forged> {
    let vote = vote(request.vote, false, "a candidate")?;
    let last = request.last_log_id.map(|id| log_id(id, &vote, "last entry")).transpose()?;
    let mut rpc = VoteRequest::new(vote, last);
    rpc.leadership_transfer = request.transfer;
    Ok(rpc)
}

/// A leader that hands over.
pub(crate) fn transfer(request: pb::TransferRequest) -> Result<TransferLeaderRequest<TypeConfig>, Forged> {
    let from = vote(request.from, true, "a leader")?;
    let last = request.last_log_id.map(|id| log_id(id, &from, "last entry")).transpose()?;
    Ok(TransferLeaderRequest::new(from, request.to, last))
}

/// What a snapshot says of itself.
pub(crate) fn snapshot(header: pb::SnapshotHeader) -> Result<(Vote, SnapshotMeta), Forged> {
    let vote = vote(header.vote, true, "a leader")?;
    let last = log_id(header.last_log_id.ok_or(WireError::Missing("last_log_id"))?, &vote, "last entry")?;
    let last_membership = wire::stored_membership_from(header.membership)?;
    if last_membership.log_id().as_ref().is_some_and(|id| id.index > last.index || id > &last) {
        return Err(Forged::Later("membership"));
    }
    Ok((vote, SnapshotMeta { last_log_id: Some(last), last_membership }))
}

/// A snapshot that is ahead of what is `committed` here is so at a later index.
pub(crate) fn snapshot_beyond(committed: Option<LogId>, last: Option<LogId>) -> Result<(), Forged> {
    match (committed, last) {
        (Some(committed), Some(last)) if last > committed && last.index <= committed.index => {
            Err(Forged::Committed)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
