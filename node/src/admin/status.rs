//! `GET status`: the cluster as this node knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trow_raft::metadata::View;
use trow_raft::{Leadership, Member, MemberState, NodeId, Partition, PartitionId, StateError};

use super::distinct::distinct;
use super::document::{
    BlobsDocument, DiskDocument, MemberDocument, PartitionsDocument, StatusDocument, UploadsDocument,
};
use super::report::MemberReport;
use super::{ASK, Admin, AdminError, CONFIRM, audit};

/// Blobs of a partition that are counted at a time.
const PAGE: usize = 1024;

impl Admin {
    pub(super) async fn status(&self) -> Result<StatusDocument, AdminError> {
        let (confirmed, answers) = tokio::join!(self.metadata.read(CONFIRM), (self.survey)(ASK));
        let quorum = confirmed.is_ok();
        let view = confirmed.unwrap_or_else(|_| self.metadata.local());
        let facts = Facts {
            quorum,
            view,
            leadership: self.metadata.leadership(),
            voters: self.metadata.voters().into_iter().collect(),
            answers: answers.into_iter().map(|answer| (answer.node, answer)).collect(),
            me: self.metadata.id(),
            grace: self.metadata.grace(),
        };
        // Counting reads as many rows as there are blobs without a full set of owners.
        let document = tokio::task::spawn_blocking(move || facts.document()).await;
        match document {
            Ok(document) => Ok(document?),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

struct Facts {
    quorum: bool,
    view: View,
    leadership: Leadership,
    voters: BTreeSet<NodeId>,
    answers: BTreeMap<NodeId, MemberReport>,
    me: NodeId,
    grace: Duration,
}

impl Facts {
    fn document(&self) -> Result<StatusDocument, StateError> {
        let view = &self.view;
        let mut members = view.members()?;
        members.sort_by(|a, b| a.name.cmp(&b.name));
        let partitions = view.partitions()?;
        let ready = partitions.iter().filter(|partition| audit::is_settled(partition)).count() as u64;
        let (state_hash, state_hash_at) = view.state_hash()?;
        let name =
            |id: NodeId| members.iter().find(|member| member.id == id).map(|member| member.name.clone());
        let (durable, bytes) = view.blob_totals()?;
        Ok(StatusDocument {
            cluster_id: view.cluster()?.map(|id| id.to_string()),
            quorum: self.quorum,
            stale: !self.quorum,
            leader: self.leadership.leader.and_then(name),
            term: self.leadership.term,
            level: view.level()?,
            rf: view.rf()?,
            applied: view.applied()?,
            state_hash: format!("{state_hash:016x}"),
            state_hash_at,
            members: members.iter().map(|member| self.member(member)).collect(),
            partitions: PartitionsDocument {
                total: partitions.len() as u64,
                ready,
                moving: partitions.len() as u64 - ready,
            },
            blobs: BlobsDocument {
                durable,
                bytes,
                under_replicated: self.under_replicated(&members, &partitions)?.min(durable),
                away: view.away_count()?,
                lost: view.lost_count()?,
                cached: distinct(self.answers.values().map(MemberReport::cached)),
            },
            policy_revision: view.policy_revision()?,
        })
    }

    fn member(&self, member: &Member) -> MemberDocument {
        let answer = self.answers.get(&member.id);
        let report = answer.and_then(|answer| answer.report.as_ref());
        let up = report.is_some() || member.id == self.me;
        let state = match member.state {
            MemberState::Draining => "draining",
            MemberState::Joining => "joining",
            MemberState::Active | MemberState::Retired if up => "up",
            MemberState::Active | MemberState::Retired => "down",
        };
        let address = |said: Option<&String>, agreed: &String| {
            let known = said.filter(|text| !text.is_empty()).unwrap_or(agreed);
            (!known.is_empty()).then(|| known.clone())
        };
        let silent_for = answer.and_then(|answer| answer.silent_for);
        let last_seen_ms = if up { Some(0) } else { silent_for.map(|silent| silent.as_millis() as u64) };
        MemberDocument {
            id: member.id.to_string(),
            name: member.name.clone(),
            zone: member.zone.clone(),
            role: if self.voters.contains(&member.id) { "voter" } else { "learner" }.to_owned(),
            state: state.to_owned(),
            client: address(report.map(|report| &report.client), &member.client),
            peer: address(report.map(|report| &report.peer), &member.peer),
            applied: report.map(|report| report.applied),
            last_seen_ms,
            repair_in_ms: match member.state {
                _ if up => None,
                MemberState::Retired => Some(0),
                MemberState::Active => {
                    silent_for.map(|silent| self.grace.saturating_sub(silent).as_millis() as u64)
                }
                MemberState::Joining | MemberState::Draining => None,
            },
            disk: report.map(|report| DiskDocument {
                total: report.disk.total,
                free: report.disk.free,
                blobs: report.disk.blobs,
            }),
            max_level: member.max_level,
            uploads: report
                .and_then(|report| report.uploads)
                .map(|uploads| UploadsDocument { sessions: uploads.sessions, bytes: uploads.bytes }),
        }
    }

    /// All blobs of a partition that an owner cannot serve now, and what the others say they lack.
    ///
    /// Two owners that lack the same blob count it twice: owners report numbers, not digests.
    fn under_replicated(&self, members: &[Member], partitions: &[Partition]) -> Result<u64, StateError> {
        let live = |node: NodeId| {
            node == self.me || self.answers.get(&node).is_some_and(|answer| answer.report.is_some())
        };
        let mut count: u64 = self.answers.values().map(MemberReport::missing).sum();
        let goal =
            (self.view.rf()? as usize).min(members.iter().filter(|member| member.state.counts()).count());
        for (partition, id) in partitions.iter().zip(PartitionId::all()) {
            let alive = partition.owners.iter().filter(|owner| live(owner.node)).count();
            if alive < goal {
                count += self.blobs_in(id)?;
            }
        }
        Ok(count)
    }

    fn blobs_in(&self, partition: PartitionId) -> Result<u64, StateError> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.view.blobs_in(partition, after, PAGE)?;
            count += page.len() as u64;
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after = Some(*last),
                _ => return Ok(count),
            }
        }
    }
}
