//! Answers peers' hellos, requests for membership and questions for the status, and asks theirs.

use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use trow_raft::proto::control as pb;
use trow_raft::proto::control::control_client::ControlClient;
use trow_raft::proto::control::control_server::{Control, ControlServer};
use trow_raft::{ClusterId, NodeId, PeerId};

use super::hello::{HelloAnswer, Hooks};
use super::status::PeerStatus;
use super::{Peers, annotate, wire};

/// Becoming a member waits for a quorum this long.
const JOIN: Duration = Duration::from_secs(10);

pub(super) fn service(peers: Peers) -> ControlServer<Answering> {
    ControlServer::new(Answering { peers })
}

pub(super) struct Answering {
    peers: Peers,
}

impl Answering {
    fn hooks(&self) -> Result<Arc<Hooks>, Status> {
        self.peers.0.hooks.load_full().ok_or_else(|| Status::unavailable("this node is starting or ending"))
    }

    /// The node as it presented itself, when it is the one that its key proves.
    fn sender<T>(&self, request: &Request<T>, node: Option<pb::Node>) -> Result<trow_raft::Member, Status> {
        let Some(PeerId(proven)) = request.extensions().get::<PeerId>().copied() else {
            return Err(Status::unauthenticated("the listener proved nobody"));
        };
        let node = node.map(wire::node_from).filter(|node| node.id == proven);
        node.ok_or_else(|| Status::invalid_argument("the request names another node than its certificate"))
    }
}

#[tonic::async_trait]
impl Control for Answering {
    async fn hello(&self, request: Request<pb::HelloRequest>) -> Result<Response<pb::HelloReply>, Status> {
        let hooks = self.hooks()?;
        let node = self.sender(&request, request.get_ref().node.clone())?;
        let facts = (hooks.facts)(node.id);
        let inner = &self.peers.0;
        if !facts.removed {
            inner.table.heard_at(&node, &node.peer);
        }
        Ok(Response::new(pb::HelloReply {
            node: Some(wire::node_to(&inner.me)),
            birth: Some(wire::card_to(&inner.card.load())),
            cluster: self.peers.cluster().map(|cluster| cluster.0),
            removed: facts.removed,
            members: facts.members.iter().map(wire::node_to).collect(),
        }))
    }

    async fn join(&self, request: Request<pb::JoinRequest>) -> Result<Response<pb::JoinReply>, Status> {
        use pb::join_reply::Result as Joined;
        let hooks = self.hooks()?;
        let node = self.sender(&request, request.get_ref().node.clone())?;
        self.peers.0.table.heard_at(&node, &node.peer);
        let (id, name) = (node.id, node.name.clone());
        let result = match tokio::time::timeout(JOIN, (hooks.join)(node)).await {
            Ok(Ok(cluster)) => {
                tracing::info!(node = %id, %name, "node joins the cluster");
                Joined::Cluster(cluster.0)
            }
            Ok(Err(why)) => Joined::Refused(why),
            Err(_) => Joined::Refused("no answer from the leader in time".to_owned()),
        };
        Ok(Response::new(pb::JoinReply { result: Some(result) }))
    }

    async fn status(&self, request: Request<pb::StatusRequest>) -> Result<Response<pb::StatusReply>, Status> {
        let hooks = self.hooks()?;
        let node = self.sender(&request, request.get_ref().node.clone())?;
        let table = &self.peers.0.table;
        if table.is_removed(node.id) || (hooks.facts)(node.id).removed {
            return Ok(Response::new(wire::status_to(PeerStatus::default(), true)));
        }
        if !table.is_member(node.id) {
            return Err(Status::permission_denied("only members are told"));
        }
        table.heard_at(&node, &node.peer);
        table.touch(node.id);
        Ok(Response::new(wire::status_to((hooks.status)(request.get_ref().audit).await, false)))
    }
}

/// A question was not answered.
pub(super) type Unanswered = String;

/// Says hello over `channel` to `to`, whom the connection has proven.
pub(super) async fn hello(peers: &Peers, channel: Channel, to: NodeId) -> Result<HelloAnswer, Unanswered> {
    let request = pb::HelloRequest { node: Some(wire::node_to(peers.me())) };
    let reply = ControlClient::new(channel).hello(request).await.map_err(|error| error.to_string())?;
    wire::answer_from(reply.into_inner(), to).ok_or_else(|| "it claims to be another node".to_owned())
}

/// Asks `to` to make this node a member.
pub(super) async fn join(peers: &Peers, channel: Channel) -> Result<ClusterId, Unanswered> {
    let request = pb::JoinRequest { node: Some(wire::node_to(peers.me())) };
    let mut client = ControlClient::new(channel);
    let reply = tokio::time::timeout(JOIN + Duration::from_secs(2), client.join(request)).await;
    let reply = reply.map_err(|_| "no answer in time".to_owned())?;
    match reply.map_err(|error| error.to_string())?.into_inner().result {
        Some(pb::join_reply::Result::Cluster(cluster)) => Ok(ClusterId(cluster)),
        Some(pb::join_reply::Result::Refused(why)) => Err(why),
        None => Err("the answer is empty".to_owned()),
    }
}

/// Asks over `channel` how its node is; `Ok(None)` says that this node was removed.
pub(super) async fn status(
    peers: &Peers,
    channel: Channel,
    audit: bool,
) -> Result<Option<PeerStatus>, Unanswered> {
    let mut request = Request::new(pb::StatusRequest { node: Some(wire::node_to(peers.me())), audit });
    annotate(request.metadata_mut());
    let reply = ControlClient::new(channel).status(request).await.map_err(|error| error.to_string())?;
    let reply = reply.into_inner();
    Ok((!reply.removed).then(|| wire::status_from(reply)))
}
