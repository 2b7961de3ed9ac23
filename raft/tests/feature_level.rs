//! Feature levels within one build: who is admitted, and what members say of themselves. What two
//! builds do to each other is tested with real processes.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::net::Net;
use common::{Cluster, Node, eventually, member, tick};
use trow_raft::command::{LEVEL, Refusal};
use trow_raft::{JoinError, Member, NodeId};

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
    let row = || node.metadata.local().member(node.id).expect("readable").expect("a member");
    eventually("the row says what this build supports", || row().max_level == LEVEL).await;
    let row = row();
    assert_eq!(row, Member { max_level: LEVEL, state: row.state, ..member(1) });
    assert_eq!(node.metadata.local().level().expect("readable"), LEVEL);
    node.stop().await;
}
