//! Raft towards the other members, over gRPC.
//!
//! Always holds: every call has a deadline; a peer that cannot be reached is an error, never a
//! grant (a cut-off node must not win a Pre-Vote by silence). Entries travel as the bytes the log
//! holds. Never does: dialling or TLS; [`Connect`] gives a channel to a proven peer.

use std::future::Future;
use std::time::Duration;

use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::incoming::{self, Forged};
use super::machine::Machine;
use super::snapshot::SnapshotData;
use super::types::{LogId, TypeConfig, Vote};
use super::wire::{self, WireError};
use crate::id::NodeId;
use crate::limits::RPC_MAX;
use crate::metadata::Connect;
use crate::proto::raft as pb;
use crate::proto::raft::raft_client::RaftClient;

mod acknowledged;
mod send_snapshot;

pub(crate) use acknowledged::Acknowledged;

type C = TypeConfig;
type Snapshot = openraft::alias::SnapshotOf<C, SnapshotData>;

/// A client on a channel to `node`, with the message limits of the protocol.
pub(crate) async fn client(connect: &Connect, node: NodeId) -> Result<RaftClient<Channel>, Status> {
    let channel = connect(node).await.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(RaftClient::new(channel).max_decoding_message_size(RPC_MAX).max_encoding_message_size(RPC_MAX))
}

/// Makes a [`Peer`] for each member.
pub(crate) struct Network {
    pub me: NodeId,
    pub connect: Connect,
    pub machine: Machine,
    pub acknowledged: Acknowledged,
}

impl RaftNetworkFactory<C> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, (): &()) -> Peer {
        Peer {
            me: self.me,
            target: NodeId(target),
            connect: self.connect.clone(),
            machine: self.machine.clone(),
            acknowledged: self.acknowledged.clone(),
            failed: 0,
        }
    }
}

/// One member, seen from here.
pub(crate) struct Peer {
    me: NodeId,
    target: NodeId,
    connect: Connect,
    machine: Machine,
    acknowledged: Acknowledged,
    /// Snapshots that were refused or broke off, one after the other.
    failed: u32,
}

impl Peer {
    async fn call<T, F>(
        &self,
        action: RPCTypes,
        limit: Duration,
        call: impl FnOnce(RaftClient<Channel>) -> F,
    ) -> Result<T, RPCError<C>>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let work = async { call(client(&self.connect, self.target).await?).await };
        match tokio::time::timeout(limit, work).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(rpc_error(&status)),
            Err(_) => Err(self.timed_out(action, limit).into()),
        }
    }

    fn timed_out(&self, action: RPCTypes, timeout: Duration) -> Timeout<C> {
        Timeout { action, id: self.me.0, target: self.target.0, timeout }
    }
}

fn rpc_error(status: &Status) -> RPCError<C> {
    match status.code() {
        // It stopped, is not up, refuses us or is gone: back off.
        Code::Unavailable | Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented => {
            Unreachable::from_string(status.message()).into()
        }
        _ => NetworkError::from_string(status).into(),
    }
}

fn malformed(error: Forged) -> RPCError<C> {
    NetworkError::new(&error).into()
}

pub(crate) fn vote_reply_to(reply: &VoteResponse<C>) -> pb::VoteReply {
    pb::VoteReply {
        vote: Some(wire::vote_to(&reply.vote)),
        granted: reply.vote_granted,
        last_log_id: reply.last_log_id.as_ref().map(wire::log_id_to),
    }
}

fn vote_reply_from(reply: pb::VoteReply, sent: &Vote) -> Result<VoteResponse<C>, Forged> {
    let last: Option<LogId> = reply.last_log_id.map(wire::log_id_from);
    Ok(VoteResponse::new(incoming::seen_vote(reply.vote, sent)?, last, reply.granted))
}

fn vote_request_to(rpc: &VoteRequest<C>) -> pb::VoteRequest {
    pb::VoteRequest {
        vote: Some(wire::vote_to(&rpc.vote)),
        last_log_id: rpc.last_log_id.as_ref().map(wire::log_id_to),
        transfer: rpc.leadership_transfer,
    }
}

pub(crate) fn append_reply_to(reply: &AppendEntriesResponse<C>) -> pb::AppendReply {
    use pb::append_reply::Result as R;
    let result = match reply {
        AppendEntriesResponse::Success => R::Success(pb::Empty {}),
        AppendEntriesResponse::PartialSuccess(id) => {
            R::Partial(pb::OptionalLogId { log_id: id.as_ref().map(wire::log_id_to) })
        }
        AppendEntriesResponse::Conflict => R::Conflict(pb::Empty {}),
        AppendEntriesResponse::HigherVote(vote) => R::HigherVote(wire::vote_to(vote)),
    };
    pb::AppendReply { result: Some(result) }
}

fn append_reply_from(
    reply: pb::AppendReply,
    sent: &AppendEntriesRequest<C>,
) -> Result<AppendEntriesResponse<C>, Forged> {
    use pb::append_reply::Result as R;
    Ok(match reply.result.ok_or(WireError::Missing("result"))? {
        R::Success(_) => AppendEntriesResponse::Success,
        R::Partial(id) => {
            let stored: Option<LogId> = id.log_id.map(wire::log_id_from);
            let sent = sent.entries.iter().map(|entry| Some(entry.log_id)).chain([sent.prev_log_id]);
            if !sent.into_iter().any(|id| id == stored) {
                return Err(Forged::Order);
            }
            AppendEntriesResponse::PartialSuccess(stored)
        }
        // Nothing was before the first entry that could be in conflict.
        R::Conflict(_) if sent.prev_log_id.is_none() => return Err(Forged::Order),
        R::Conflict(_) => AppendEntriesResponse::Conflict,
        R::HigherVote(vote) => {
            AppendEntriesResponse::HigherVote(incoming::seen_vote(Some(vote), &sent.vote)?)
        }
    })
}

impl RaftNetworkV2<C> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<C>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<C>, RPCError<C>> {
        let request = pb::AppendRequest {
            vote: Some(wire::vote_to(&rpc.vote)),
            prev: rpc.prev_log_id.as_ref().map(wire::log_id_to),
            entries: rpc.entries.iter().map(wire::encode_entry).collect(),
            commit: rpc.leader_commit.as_ref().map(wire::log_id_to),
        };
        let call = |mut client: RaftClient<Channel>| async move { client.append(request).await };
        // A batch of large entries takes longer than a heartbeat may.
        let limit = if rpc.entries.is_empty() {
            option.hard_ttl()
        } else {
            option.hard_ttl().max(Duration::from_secs(5))
        };
        let before = self.acknowledged.upto(self.target, &rpc.vote);
        let reply = self.call(RPCTypes::AppendEntries, limit, call).await?;
        let answer = append_reply_from(reply, &rpc).map_err(malformed)?;
        self.acknowledged
            .judge(self.target, &rpc, before, &answer)
            .map_err(|went_back| Unreachable::new(&went_back))?;
        Ok(answer)
    }

    async fn vote(&mut self, rpc: VoteRequest<C>, option: RPCOption) -> Result<VoteResponse<C>, RPCError<C>> {
        let request = vote_request_to(&rpc);
        let call = |mut client: RaftClient<Channel>| async move { client.vote(request).await };
        let reply = self.call(RPCTypes::Vote, option.hard_ttl(), call).await?;
        vote_reply_from(reply, &rpc.vote).map_err(malformed)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<C>,
        option: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        let request = vote_request_to(&rpc);
        let call = |mut client: RaftClient<Channel>| async move { client.pre_vote(request).await };
        let reply = self.call(RPCTypes::Vote, option.hard_ttl(), call).await?;
        vote_reply_from(reply, &rpc.vote).map_err(malformed)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + openraft::OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = self.send_snapshot_and_rest(vote, snapshot, option.hard_ttl()) => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<C>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<C>, RPCError<C>> {
        let request = pb::TransferRequest {
            from: Some(wire::vote_to(rpc.from_leader())),
            to: *rpc.to_node_id(),
            last_log_id: rpc.last_log_id().map(wire::log_id_to),
        };
        let call = |mut client: RaftClient<Channel>| async move { client.transfer_leader(request).await };
        let reply = self.call(RPCTypes::TransferLeader, option.hard_ttl(), call).await?;
        match reply.accepted {
            true => Ok(Ok(())),
            false => Err(NetworkError::from_string(reply.refused).into()),
        }
    }
}
