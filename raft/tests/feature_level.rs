//! Feature levels within one build: who is admitted, and what members say of themselves. What two
//! builds do to each other is tested with real processes.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::net::Net;
use common::{Cluster, Node, eventually, member, tick};
use trow_raft::command::{Command, LEVEL, Refusal};
use trow_raft::{Generation, JoinError, Member, MemberState, NodeId};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_below_the_level_is_not_admitted() {
    let cluster = Cluster::new(3).await;
    for node in &cluster.nodes {
        let old = Member { max_level: LEVEL - 1, ..member(9) };
        let refused = node.metadata.join(old).await.expect_err("too old");
        assert_eq!(refused, JoinError::Refused(Refusal::LevelUnsupported));
        assert_eq!(node.metadata.local().member(NodeId(9)).expect("readable"), None);
    }
    // A learner whose row was refused would count in consensus, and for nobody else.
    let leader = cluster.node(cluster.leader().await);
    assert_eq!(leader.metadata.voters().len(), 3);
    leader.metadata.propose("test", tick(1)).await.expect("it goes on");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_comes_to_say_what_the_running_program_supports() {
    let (net, dirs) = (Arc::new(Net::default()), tempfile::tempdir().expect("directory"));
    let node = Node::start(&net, 1, &dirs.path().join("1"), Default::default()).await;
    node.metadata.initialize(BTreeSet::from([node.id])).await.expect("initialise");
    // As if a later version had run here before.
    let later = Member { max_level: LEVEL + 1, ..member(1) };
    let born = node.metadata.birth(3, vec![later]);
    tokio::time::timeout(Duration::from_secs(20), born).await.expect("born");
    eventually("the row says what this build supports", || row(&node).max_level == LEVEL).await;
    let row = row(&node);
    assert_eq!(row, Member { max_level: LEVEL, state: row.state, ..member(1) });
    assert_eq!(node.metadata.local().level().expect("readable"), LEVEL);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_comes_to_say_what_a_restart_has_changed() {
    let (net, dirs) = (Arc::new(Net::default()), tempfile::tempdir().expect("directory"));
    let dir = dirs.path().join("1");
    let node = Node::start(&net, 1, &dir, Default::default()).await;
    node.metadata.initialize(BTreeSet::from([node.id])).await.expect("initialise");
    let born = node.metadata.birth(3, vec![Member { weight: 100, ..member(1) }]);
    tokio::time::timeout(Duration::from_secs(20), born).await.expect("born");
    let other = Command::ChangeMember { member: member(2) };
    node.metadata.propose("test", other).await.expect("another member");
    eventually("it is a full member", || row(&node).state == MemberState::Active).await;
    let before = row(&node);
    node.stop().await;

    let (zone, client, peer) = ("b".to_owned(), "10.0.0.1:5000".to_owned(), "10.0.0.1:5001".to_owned());
    let moved = Member { zone, client, peer, ..member(1) };
    // Names it cannot have, and a disk that is all but as large.
    let near = Member { name: "n2".into(), weight: 109, ..moved.clone() };
    let node = Node::start_with(&net, 1, &dir, Default::default(), |to| to.row = Some(near)).await;
    eventually("the row says where it is", || row(&node).zone == "b").await;
    assert_eq!(row(&node), Member { weight: 100, state: before.state, ..moved.clone() });
    node.stop().await;

    let larger = Member { name: "renamed".into(), weight: 200, generation: Generation(7), ..moved };
    let now = Member { state: before.state, generation: before.generation, ..larger.clone() };
    let node = Node::start_with(&net, 1, &dir, Default::default(), |to| to.row = Some(larger)).await;
    eventually("the row says how large its disk is", || row(&node) == now).await;
    node.stop().await;
}

fn row(node: &Node) -> Member {
    node.metadata.local().member(node.id).expect("readable").expect("a member")
}
