//! What a node that belongs to no cluster does next. Pure.
//!
//! A cluster's first set is written down by each of its nodes as the same first log entry, so no
//! node may ever take part in two different ones. Always holds: a node starts consensus with a
//! set only when all of that set are bound to it on their disks; a bound node answers for no
//! other set, starts no other and joins no cluster of others; an unbound node that sees a cluster
//! goes there. So two first sets can differ only when they share no node, that is when every disk
//! of the one is gone.
//!
//! A node binds itself only when all of the set propose it, so that a set is not bound half while
//! the nodes still find each other. A node that is bound waits for ever for the others: it cannot
//! know whether they went ahead on its answer.

use std::collections::BTreeSet;
use std::fmt;

use trow_raft::{ClusterId, NodeId, Planted, Variant};

use crate::peer::HelloAnswer;

/// Nodes by id.
pub type Set = BTreeSet<NodeId>;

/// What a node knows of itself.
#[derive(Clone, Debug)]
pub struct Own {
    /// Who it is.
    pub id: NodeId,
    /// How many nodes a cluster is born of, this one included; `None` only joins.
    pub expect: Option<usize>,
    /// It has a log.
    pub ever_member: bool,
    /// The set that it is bound to, on its disk.
    pub bound: Option<Set>,
    /// The wrong rule in force, in a test build.
    pub planted: Planted,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This node was removed from the cluster that `by` belongs to.
    Removed {
        /// Who says so.
        by: NodeId,
    },
    /// The cluster counts this node already.
    Member {
        /// Which.
        cluster: ClusterId,
        /// Who says so.
        by: NodeId,
    },
    /// Ask `through` to be made a member.
    Join {
        /// Of which cluster.
        cluster: ClusterId,
        /// Whom.
        through: NodeId,
    },
    /// Write the set down as bound, durably, and only then present it.
    Bind(Set),
    /// All are bound: start consensus with the set.
    Initialize(Set),
    /// Present the proposal, if any, and ask again.
    Wait {
        /// The set that this node would agree to.
        proposal: Option<Set>,
        /// What it waits for.
        why: Waiting,
    },
}

/// What a node waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// It only joins and nobody has a cluster.
    NoCluster,
    /// Fewer unborn nodes answered than are needed.
    TooFew {
        /// That answered, this node included.
        found: usize,
        /// That are needed.
        expect: usize,
    },
    /// Enough answered, but these do not propose the same set yet.
    Agreement(Set),
    /// This node is bound, and these do not answer that they are.
    Bound(Set),
    /// A cluster is being born without this node, or wakes up; this node is to join it.
    OthersFirst,
    /// This node has a log, and nobody has a cluster id to tell.
    Consensus,
    /// This node is bound, and the cluster that answers does not count it.
    Elsewhere(ClusterId),
    /// Peers belong to different clusters.
    TwoClusters(ClusterId, ClusterId),
}

/// Decides on the answers of one round. They are of other nodes, each at most once.
pub fn decide(own: &Own, answers: &[HelloAnswer]) -> Decision {
    if let Some(decision) = existing(own, answers) {
        return decision;
    }
    if own.ever_member {
        return wait(own.bound.clone(), Waiting::Consensus);
    }
    let Some(expect) = own.expect else { return wait(None, Waiting::NoCluster) };
    if own.planted.is(Variant::C4BirthWithoutAll) {
        let found = answers.iter().map(|answer| answer.node.id);
        return Decision::Initialize(found.chain([own.id]).collect());
    }
    match &own.bound {
        Some(set) => bound(own, set, answers),
        None => unbound(own, expect, answers),
    }
}

/// A cluster that answers wins over any birth.
fn existing(own: &Own, answers: &[HelloAnswer]) -> Option<Decision> {
    let born = || answers.iter().filter_map(|answer| Some((answer.cluster?, answer)));
    let (cluster, first) = born().next()?;
    if let Some((other, _)) = born().find(|(other, _)| *other != cluster) {
        return Some(wait(own.bound.clone(), Waiting::TwoClusters(cluster, other)));
    }
    if let Some((_, answer)) = born().find(|(_, answer)| answer.removed) {
        return Some(Decision::Removed { by: answer.node.id });
    }
    // A cluster of the set that this node is bound to has it as a voter from its first entry on,
    // also while the rows of its members are still being written.
    let counts_me = |answer: &HelloAnswer| {
        let same_birth = own.bound.is_some() && answer.card.bound == own.bound;
        same_birth || answer.members.iter().any(|member| member.id == own.id)
    };
    if let Some((_, answer)) = born().find(|(_, answer)| counts_me(answer)) {
        return Some(Decision::Member { cluster, by: answer.node.id });
    }
    if own.bound.is_some() {
        // The others of its set may have gone ahead on its word, so it cannot go elsewhere.
        return Some(wait(own.bound.clone(), Waiting::Elsewhere(cluster)));
    }
    Some(Decision::Join { cluster, through: first.node.id })
}

fn bound(own: &Own, set: &Set, answers: &[HelloAnswer]) -> Decision {
    let is_bound = |id: &NodeId| {
        let answer = answers.iter().find(|answer| answer.node.id == *id);
        answer.is_some_and(|answer| answer.card.bound.as_ref() == Some(set))
    };
    let missing: Set = set.iter().copied().filter(|id| *id != own.id && !is_bound(id)).collect();
    if missing.is_empty() {
        return Decision::Initialize(set.clone());
    }
    wait(Some(set.clone()), Waiting::Bound(missing))
}

fn unbound(own: &Own, expect: usize, answers: &[HelloAnswer]) -> Decision {
    if answers.iter().any(|answer| answer.card.ever_member) {
        return wait(None, Waiting::OthersFirst);
    }
    let fresh: Vec<&HelloAnswer> =
        answers.iter().filter(|answer| answer.card.expect == Some(expect)).collect();
    let bound_to = || answers.iter().filter_map(|answer| answer.card.bound.as_ref());
    let candidate: Set = match bound_to().next() {
        Some(set) => set.clone(),
        None => {
            let found: Set = fresh.iter().map(|answer| answer.node.id).chain([own.id]).collect();
            if found.len() < expect {
                return wait(None, Waiting::TooFew { found: found.len(), expect });
            }
            // All that see the same nodes choose the same set: the lowest ids.
            found.into_iter().take(expect).collect()
        }
    };
    if !candidate.contains(&own.id) || bound_to().any(|set| *set != candidate) {
        return wait(None, Waiting::OthersFirst);
    }
    let agrees = |id: &NodeId| {
        let answer = fresh.iter().find(|answer| answer.node.id == *id);
        answer.is_some_and(|answer| {
            answer.card.bound.as_ref().or(answer.card.proposal.as_ref()) == Some(&candidate)
        })
    };
    let missing: Set = candidate.iter().copied().filter(|id| *id != own.id && !agrees(id)).collect();
    if !missing.is_empty() || candidate.len() != expect {
        return wait(Some(candidate), Waiting::Agreement(missing));
    }
    if own.planted.is(Variant::C4UnboundAnswer) {
        return Decision::Initialize(candidate);
    }
    Decision::Bind(candidate)
}

fn wait(proposal: Option<Set>, why: Waiting) -> Decision {
    Decision::Wait { proposal, why }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |set: &Set| set.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Waiting::NoCluster => f.write_str(
                "no peer belongs to a cluster, and this node only joins; start one with --bootstrap-expect",
            ),
            Waiting::TooFew { found, expect } => {
                write!(f, "{found} of {expect} nodes of the new cluster answered, this one included")
            }
            Waiting::Agreement(set) => write!(f, "not yet of the same mind: {}", list(set)),
            Waiting::Bound(set) => write!(
                f,
                "this node agreed to be born together with {}, which must answer; if one of them lost its \
                 disk before the birth, empty the data directories of all",
                list(set)
            ),
            Waiting::OthersFirst => {
                f.write_str("a cluster without this node is being born or waking up; this node joins it then")
            }
            Waiting::Consensus => f.write_str("this node was a member and waits for a quorum of its cluster"),
            Waiting::Elsewhere(cluster) => write!(
                f,
                "this node agreed to be born into another cluster than {cluster}; to join that one, empty \
                 this node's data directory"
            ),
            Waiting::TwoClusters(one, other) => write!(
                f,
                "the join addresses lead to two clusters, {one} and {other}; name the peers of one of them"
            ),
        }
    }
}
