//! Raft's gRPC service towards the other members.
//!
//! Always holds: nothing is done for a request without a proven sender, for one that claims to be
//! somebody else, for one with this node's own identity (a copied data directory), or for a removed
//! node (which is told so). What only concerns members (proposals, reads) is done for members.
//! Votes and entries are taken from senders that this node does not know yet: one that was away may
//! be behind on who is a member. Consensus hears only what has the form of the protocol.

use std::time::Duration;

use openraft::raft::{AppendEntriesResponse, VoteRequest};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::complaints::About;
use super::leader::{Proposed, ReadRefused};
use super::{Metadata, PeerId};
use crate::codec;
use crate::command::{Command, Envelope, LEVEL};
use crate::consensus::incoming::{self, Forged};
use crate::consensus::network::{append_reply_to, vote_reply_to};
use crate::consensus::types::TypeConfig;
use crate::digest::Digest;
use crate::id::NodeId;
use crate::limits::{ACTOR_MAX, ENTRY_MAX, RPC_MAX};
use crate::proto::raft as pb;
use crate::proto::raft::raft_server::{Raft, RaftServer};

/// The service of one node.
#[derive(Clone)]
pub struct Service(Metadata);

/// The service with the message limits of the protocol.
pub(super) fn server(metadata: Metadata) -> RaftServer<Service> {
    let server = RaftServer::new(Service(metadata));
    server.max_decoding_message_size(RPC_MAX).max_encoding_message_size(RPC_MAX)
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

impl Service {
    /// Who sent the request; a removed node is refused.
    fn sender<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        if *self.0.0.stop.borrow() {
            return Err(Status::unavailable("shutting down"));
        }
        let PeerId(peer) = *request
            .extensions()
            .get::<PeerId>()
            .ok_or_else(|| Status::unauthenticated("the connection has no proven sender"))?;
        // Consensus must not hear of a second leader of its own vote.
        if peer == self.0.id() {
            if let Some(left_out) = self.0.0.complaints.due(peer, About::Identity) {
                tracing::error!(%peer, left_out, "refused a node with this node's own identity: its data directory is a copy of this one; empty it, and it joins under a new id");
            }
            return Err(Status::permission_denied("the sender has the identity of this node"));
        }
        if self.0.local().removed(peer).map_err(internal)? {
            if let Some(left_out) = self.0.0.complaints.due(peer, About::Removed) {
                tracing::info!(%peer, left_out, "refused a removed node");
            }
            return Err(Status::permission_denied("the node was removed from the cluster"));
        }
        Ok(peer)
    }

    fn member<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        let peer = self.sender(request)?;
        if !self.0.is_in_membership(peer) {
            if let Some(left_out) = self.0.0.complaints.due(peer, About::Stranger) {
                tracing::warn!(%peer, left_out, "refused a node that is no member; started with --join it asks to become one");
            }
            return Err(Status::permission_denied("not a member"));
        }
        Ok(peer)
    }

    /// The envelope must be the sender's own: retries are told apart by it. Says its
    /// level, and what it asks for.
    fn own_envelope(&self, peer: NodeId, envelope: &bytes::Bytes) -> Result<(u32, Command), Status> {
        let len = envelope.len();
        let envelope = codec::decode_envelope(envelope.clone());
        let envelope = envelope.map_err(|error| Status::invalid_argument(error.to_string()))?;
        if envelope.node != peer {
            if let Some(left_out) = self.0.0.complaints.due(peer, About::Name) {
                tracing::warn!(%peer, left_out, claimed = %envelope.node, "refused a proposal in another node's name; look at that node: its version, its disk, and whether somebody else has its key");
            }
            return Err(Status::permission_denied("the proposal is not the sender's own"));
        }
        bounded(len, &envelope).map_err(Status::invalid_argument)?;
        Ok((envelope.level.max(envelope.command.level()), envelope.command))
    }

    fn vote_request(
        &self,
        peer: NodeId,
        request: pb::VoteRequest,
    ) -> Result<VoteRequest<TypeConfig>, Status> {
        let rpc = incoming::candidacy(request).map_err(|error| self.0.forged(peer, &error))?;
        self.0.own_vote(peer, &rpc.vote)?;
        Ok(rpc)
    }

    fn propose_reply(&self, proposed: Proposed) -> Response<pb::ProposeReply> {
        use pb::propose_reply::Result as R;
        let result = match proposed {
            Proposed::Applied(bytes) => R::Applied(bytes),
            Proposed::Forward => R::Forward(self.0.raft_leader().map_or(0, |leader| leader.0)),
            Proposed::Unknown(why) => R::Unknown(why),
            Proposed::Refused(why) => R::Refused(why),
            Proposed::Busy => R::Busy(pb::Empty {}),
        };
        Response::new(pb::ProposeReply { result: Some(result) })
    }
}

/// What no member's own code proposes, and no entry may have: it could not be sent to the others,
/// or its rows not be taken from a snapshot.
fn bounded(len: usize, envelope: &Envelope) -> Result<(), &'static str> {
    if len > ENTRY_MAX {
        return Err("the proposal is larger than an entry may be");
    }
    if envelope.actor.len() > ACTOR_MAX {
        return Err("the proposal's actor is longer than a name may be");
    }
    match &envelope.command {
        Command::PutManifest { manifest, .. } | Command::PutCached { manifest, .. }
            if Digest::of(manifest.digest.algorithm(), &manifest.bytes) != manifest.digest =>
        {
            Err("the manifest's bytes do not have its digest")
        }
        _ => Ok(()),
    }
}

fn may_be_taken_in(metadata: &Metadata, level: u32, command: &Command) -> Result<(), String> {
    metadata.allows(level).map_err(|error| error.to_string())?;
    may_come_from_others(command)
}

/// The level is raised by the leader, which knows what it supports itself: an agreed level that no
/// program has would end every node for good.
fn may_come_from_others(command: &Command) -> Result<(), String> {
    match command {
        Command::SetLevel { .. } => Err("the level is raised by the leader alone".to_owned()),
        Command::Birth { level, .. } if *level > LEVEL => {
            Err(format!("this version supports feature level {LEVEL} at most"))
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl Raft for Service {
    async fn append(&self, request: Request<pb::AppendRequest>) -> Result<Response<pb::AppendReply>, Status> {
        let peer = self.sender(&request)?;
        let (mut rpc, all) = match incoming::append(request.into_inner()) {
            Err(Forged::Newer(newer)) => (self.0.left_behind(peer, newer)?, false),
            judged => (judged.map_err(|error| self.0.forged(peer, &error))?, true),
        };
        self.0.own_vote(peer, &rpc.vote)?;
        let prev = rpc.prev_log_id;
        let _handed_on = self.0.0.installing.beside(&mut rpc).await?;
        let rpc = match self.0.committed_under(&rpc.vote) {
            Some(committed) => {
                incoming::beyond(committed, rpc).map_err(|error| self.0.forged(peer, &error))?
            }
            None => rpc,
        };
        let mut reply = self.0.0.raft.append_entries(rpc).await.map_err(internal)?;
        if !matches!(reply, AppendEntriesResponse::HigherVote(_)) {
            self.0.0.leadership.hear();
        }
        if !all && matches!(reply, AppendEntriesResponse::Success) {
            reply = AppendEntriesResponse::PartialSuccess(prev);
        }
        Ok(Response::new(append_reply_to(&reply)))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteReply>, Status> {
        let peer = self.sender(&request)?;
        let rpc = self.vote_request(peer, request.into_inner())?;
        let reply = self.0.0.raft.vote(rpc).await.map_err(internal)?;
        Ok(Response::new(vote_reply_to(&reply)))
    }

    async fn pre_vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteReply>, Status> {
        let peer = self.sender(&request)?;
        let rpc = self.vote_request(peer, request.into_inner())?;
        let reply = self.0.0.raft.pre_vote(rpc).await.map_err(internal)?;
        Ok(Response::new(vote_reply_to(&reply)))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotPart>>,
    ) -> Result<Response<pb::SnapshotReply>, Status> {
        let peer = self.sender(&request)?;
        Ok(Response::new(self.0.receive_snapshot(peer, request.into_inner()).await?))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferRequest>,
    ) -> Result<Response<pb::TransferReply>, Status> {
        let peer = self.sender(&request)?;
        let rpc = incoming::transfer(request.into_inner()).map_err(|error| self.0.forged(peer, &error))?;
        self.0.own_vote(peer, rpc.from_leader())?;
        let reply = match self.0.0.raft.handle_transfer_leader(rpc).await.map_err(internal)? {
            Ok(()) => pb::TransferReply { accepted: true, refused: String::new() },
            Err(error) => pb::TransferReply { accepted: false, refused: error.to_string() },
        };
        Ok(Response::new(reply))
    }

    async fn propose(
        &self,
        request: Request<pb::ProposeRequest>,
    ) -> Result<Response<pb::ProposeReply>, Status> {
        let peer = self.member(&request)?;
        let envelope = request.into_inner().envelope;
        let (level, command) = self.own_envelope(peer, &envelope)?;
        let proposed = match may_be_taken_in(&self.0, level, &command) {
            Ok(()) => self.0.lead_proposal(envelope).await,
            Err(why) => Proposed::Refused(why),
        };
        Ok(self.propose_reply(proposed))
    }

    async fn join(&self, request: Request<pb::JoinRequest>) -> Result<Response<pb::ProposeReply>, Status> {
        let peer = self.member(&request)?;
        let envelope = request.into_inner().envelope;
        let (level, command) = self.own_envelope(peer, &envelope)?;
        let proposed = match may_be_taken_in(&self.0, level, &command) {
            Ok(()) => self.0.lead_join(envelope).await,
            Err(why) => Proposed::Refused(why),
        };
        Ok(self.propose_reply(proposed))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexReply>, Status> {
        use pb::read_index_reply::Result as R;
        self.member(&request)?;
        let result = match self.0.lead_read().await {
            Ok(index) => R::Index(index),
            Err(ReadRefused::Forward) => R::Forward(self.0.raft_leader().map_or(0, |leader| leader.0)),
            Err(ReadRefused::NoQuorum(why)) => R::NoQuorum(why),
        };
        Ok(Response::new(pb::ReadIndexReply { result: Some(result) }))
    }

    async fn wait_applied(
        &self,
        request: Request<pb::WaitAppliedRequest>,
    ) -> Result<Response<pb::WaitAppliedReply>, Status> {
        self.member(&request)?;
        let request = request.into_inner();
        // Bounded whatever the peer asks for.
        let limit = Duration::from_millis(request.timeout_ms.min(10_000));
        self.0.applied_within(request.index, limit).await;
        Ok(Response::new(pb::WaitAppliedReply { applied: *self.0.applied().borrow() }))
    }
}
