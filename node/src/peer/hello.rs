//! What nodes tell each other before and outside consensus.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use trow_raft::{ClusterId, Member, Metadata, NodeId};

use super::status::StatusFn;

/// Where this node stands in being born; part of every answer to a hello. A set that is presented
/// as `bound` is on this node's disk already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// How many nodes it waits for, itself included; `None` when it only joins.
    pub expect: Option<usize>,
    /// It was, or is becoming, a member.
    pub ever_member: bool,
    /// The first set that it would agree to; binds nobody.
    pub proposal: Option<BTreeSet<NodeId>>,
    /// The first set that it is bound to.
    pub bound: Option<BTreeSet<NodeId>>,
}

/// What a node said to a hello. `node.id` is proven by its key, everything else is its word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloAnswer {
    /// Who it is.
    pub node: Member,
    /// Where it stands in being born.
    pub card: Card,
    /// The cluster that it belongs to.
    pub cluster: Option<ClusterId>,
    /// This node was removed from that cluster.
    pub removed: bool,
    /// That cluster's members, as it knows them.
    pub members: Vec<Member>,
}

/// What the state of this node says, for an answer to `asker`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The asker was removed.
    pub removed: bool,
    /// The members.
    pub members: Vec<Member>,
}

type FactsFn = Arc<dyn Fn(NodeId) -> Facts + Send + Sync>;
type JoinFn = Arc<dyn Fn(Member) -> BoxFuture<'static, Result<ClusterId, String>> + Send + Sync>;

/// What questions of peers are answered with.
#[derive(Clone)]
pub struct Hooks {
    /// What the state says.
    pub facts: FactsFn,
    /// Makes a node a member.
    pub join: JoinFn,
    /// How this node is.
    pub status: StatusFn,
}

impl Hooks {
    /// Answers out of `metadata`.
    pub fn of(metadata: Metadata, status: StatusFn) -> Hooks {
        let (facts, join) = (metadata.clone(), metadata);
        Hooks {
            facts: Arc::new(move |asker| {
                let view = facts.local();
                // A state that cannot be read ends the process elsewhere; here it knows nobody.
                Facts {
                    removed: view.removed(asker).unwrap_or(false),
                    members: view.members().unwrap_or_default(),
                }
            }),
            join: Arc::new(move |member| {
                let metadata = join.clone();
                Box::pin(async move { metadata.join(member).await.map_err(|error| error.to_string()) })
            }),
            status,
        }
    }
}
