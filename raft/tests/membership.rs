//! Joining, leaving, retiring and removing, in one process.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::net::Fault;
use common::{Cluster, Node, eventually, member, tick};
use prometheus_client::registry::Registry;
use trow_raft::proto::raft as pb;
use trow_raft::{Command, JoinError, MemberState, Metadata, NodeId, PartitionId, ProposeError, Refusal};

const LONG: Duration = Duration::from_secs(10);

fn ids(range: std::ops::RangeInclusive<u64>) -> BTreeSet<NodeId> {
    range.map(NodeId).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_with_data_grows_to_six_with_five_voters() {
    let mut cluster = Cluster::new(1).await;
    cluster.nodes[0].metadata.propose("test", tick(7)).await.expect("applied");
    spawn_ready(&cluster.nodes[0]);
    for id in 2..=6 {
        cluster.join(id).await;
        spawn_ready(cluster.node(NodeId(id)));
    }
    eventually("five vote", || cluster.nodes[0].metadata.voters().len() == 5).await;
    let base = cluster.nodes[0].metadata.clone();
    eventually("every partition has three owners", || {
        let partitions = base.local().partitions().expect("readable");
        partitions.iter().all(|partition| partition.owners.len() == 3)
    })
    .await;
    for node in &cluster.nodes {
        let view = node.metadata.read(LONG).await.expect("a quorum");
        assert_eq!(view.time().expect("readable"), 7);
        assert_eq!(view.members().expect("readable").len(), 6);
        node.metadata.propose("test", tick(0)).await.expect("learners propose as well");
    }
    cluster.stop().await;
}

/// What a node counted, as the metrics endpoint shows it.
fn shown(metadata: &Metadata) -> String {
    let (mut registry, mut text) = (Registry::default(), String::new());
    metadata.register(&mut registry);
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encoded");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_is_sent_the_state_when_the_log_was_cut() {
    let mut cluster = Cluster::with(1, |settings| settings.log_limit = 1 << 20).await;
    let one = cluster.nodes[0].metadata.clone();
    for fill in 0..8 {
        one.propose("test", common::push(fill, 4 << 20).1).await.expect("applied");
    }
    eventually("the log is cut", || one.metrics().purged > 4).await;
    cluster.join(2).await;
    let two = cluster.node(NodeId(2)).metadata.clone();
    assert_eq!(*two.installed().borrow(), 1);
    for (metadata, way) in [(&one, "out"), (&two, "in")] {
        let shown = shown(metadata);
        assert!(shown.contains(&format!("trow_raft_snapshots_total{{direction=\"{way}\"}} 1\n")), "{shown}");
        let bytes = shown.split(&format!("trow_raft_snapshot_bytes_total{{direction=\"{way}\"}} ")).nth(1);
        let bytes = bytes.and_then(|rest| rest.lines().next()?.parse::<u64>().ok());
        assert!(bytes.is_some_and(|bytes| bytes > 32 << 20), "{shown}");
    }
    let (digest, _) = common::push(0, 4 << 20);
    let body = two.local().body(&digest).expect("readable").expect("it is there");
    assert_eq!(body.len(), 4 << 20);
    eventually("both vote", || one.voters().len() == 2).await;
    two.propose("test", tick(3)).await.expect("applied");

    drop(two);
    let node = cluster.nodes.pop().expect("the second");
    node.stop().await;
    let again = Node::start(&cluster.net, 2, &cluster.dir(2), Default::default()).await;
    let view = again.metadata.read(LONG).await.expect("a quorum");
    assert_eq!(view.time().expect("readable"), 3);
    assert!(view.body(&digest).expect("readable").is_some());
    drop(view);
    again.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_within_the_kept_tail_is_sent_the_log() {
    const LIMIT: u64 = 4 << 20;
    let cluster = Cluster::with(3, |settings| settings.log_limit = LIMIT).await;
    let leader = cluster.leader().await;
    let one = cluster.node(leader).metadata.clone();
    let away = cluster.nodes.iter().find(|node| node.id != leader).expect("a follower");
    let (mut grown, mut seen, mut cut_while_away) = (0, 0, 0);
    for round in 0..40 {
        for node in &cluster.nodes {
            cluster.net.cut(away.id, node.id);
        }
        let before = one.metrics().purged;
        grown = if before > seen { 0 } else { grown };
        // Less than is kept; now and then it is what makes the log reach its limit.
        let mut last = 0;
        for fill in 0..3 {
            let (_, put) = common::push(round * 3 + fill, 250_000);
            last = one.propose("test", put).await.expect("applied").index;
            grown += 250_000;
        }
        if grown >= LIMIT {
            eventually("the log is cut", || one.metrics().purged > before).await;
        }
        seen = one.metrics().purged;
        cut_while_away += usize::from(seen > before);
        grown = if seen > before { 0 } else { grown };
        cluster.net.heal();
        eventually("the follower has the rest", || *away.metadata.applied().borrow() >= last).await;
        assert_eq!(*away.metadata.installed().borrow(), 0, "it was sent the state in round {round}");
        if cut_while_away == 3 {
            break;
        }
    }
    assert!(cut_while_away >= 3, "{cut_while_away} cuts");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_member_leaves_and_cannot_come_back_under_its_id() {
    let mut cluster = Cluster::new(3).await;
    cluster.join(4).await;
    eventually("four vote", || cluster.nodes[0].metadata.voters() == ids(1..=4)).await;
    let leader = cluster.leader().await;
    let drain = Command::SetMemberState { node: leader, state: MemberState::Draining };
    let other = cluster.nodes.iter().position(|node| node.id != leader).expect("others");
    let metadata = cluster.nodes[other].metadata.clone();
    metadata.propose("test", drain).await.expect("applied");
    // Its partitions have no blobs, so that new owners are ready at once when they say so.
    for node in &cluster.nodes {
        spawn_ready(node);
    }
    eventually("it is removed", || {
        let view = metadata.local();
        view.removed(leader).expect("readable") && !metadata.voters().contains(&leader)
    })
    .await;
    let error = metadata.join(member(leader.0)).await.expect_err("it was removed");
    assert_eq!(error, JoinError::Refused(Refusal::Removed));
    cluster.stop().await;
}

/// Answers for a store without blobs: every partition owned is ready.
fn spawn_ready(node: &Node) {
    let (metadata, id) = (node.metadata.clone(), node.id);
    tokio::spawn(async move {
        loop {
            let view = metadata.local();
            let Ok(Some(row)) = view.member(id) else { return };
            let mut partitions = Vec::new();
            for (partition, found) in PartitionId::all().zip(view.partitions().expect("readable")) {
                let owner = found.owners.iter().find(|owner| owner.node == id && !owner.ready);
                partitions.extend(owner.map(|owner| (partition, owner.added_at)));
            }
            drop(view);
            if !partitions.is_empty() {
                let ready = Command::PartitionReady { node: id, generation: row.generation, partitions };
                let _ = metadata.propose("test", ready).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_member_loses_its_partitions_and_not_its_membership() {
    let mut cluster = Cluster::with(4, |settings| settings.grace = Duration::from_secs(2)).await;
    let metadata = cluster.nodes[0].metadata.clone();
    eventually("partitions are owned", || {
        let partitions = metadata.local().partitions().expect("readable");
        partitions.iter().any(|partition| partition.owned_by(NodeId(4)))
    })
    .await;
    let silent = cluster.nodes.pop().expect("the fourth");
    silent.stop().await;
    let state = || metadata.local().member(NodeId(4)).expect("readable").map(|row| row.state);
    eventually("it is retired", || state() == Some(MemberState::Retired)).await;
    eventually("it owns nothing", || {
        let partitions = metadata.local().partitions().expect("readable");
        partitions.iter().all(|partition| !partition.owned_by(NodeId(4)))
    })
    .await;
    let back = Node::start(&cluster.net, 4, &cluster.dir(4), Default::default()).await;
    eventually("it is active again", || state() == Some(MemberState::Active)).await;
    back.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_takes_the_name_of_a_dead_member_but_not_of_a_live_one() {
    let mut cluster = Cluster::new(3).await;
    let mut newcomer = member(9);
    newcomer.name = "n3".into();
    let error = cluster.nodes[0].metadata.join(newcomer.clone()).await.expect_err("n3 lives");
    assert_eq!(error, JoinError::Refused(Refusal::NameTaken { by: NodeId(3) }));
    let dead = cluster.nodes.pop().expect("the third");
    dead.stop().await;
    let node = Node::start(&cluster.net, 9, &cluster.dir(9), Default::default()).await;
    // As a node does: asks again until the silence of the dead one is long enough.
    let asking = tokio::time::Instant::now();
    while let Err(error) = cluster.nodes[0].metadata.join(newcomer.clone()).await {
        let taken = JoinError::Refused(Refusal::NameTaken { by: NodeId(3) });
        assert!(error == taken || matches!(error, JoinError::NotNow(_)), "{error}");
        assert!(asking.elapsed() < Duration::from_secs(20), "not in time: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    eventually("it votes in the dead one's place", || {
        let voters = cluster.nodes[0].metadata.voters();
        voters.contains(&NodeId(9)) && !voters.contains(&NodeId(3))
    })
    .await;
    node.stop().await;
    cluster.stop().await;
}

/// A newcomer with the name of member 3 asks node `through`; it must be refused.
async fn is_refused_the_name_of_3(cluster: &Cluster, through: NodeId) {
    let mut newcomer = member(9);
    newcomer.name = "n3".into();
    let error = cluster.node(through).metadata.join(newcomer).await.expect_err("n3 lives");
    let refused = matches!(error, JoinError::NotNow(ProposeError::Refused(_)));
    assert!(
        refused && error.to_string().contains(&Refusal::NameTaken { by: NodeId(3) }.to_string()),
        "{error}"
    );
    let view = cluster.node(through).metadata.local();
    assert!(view.member(NodeId(3)).expect("readable").is_some(), "a live member was removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_never_heard_of_is_not_taken_for_dead() {
    let cluster = Cluster::with(3, |settings| settings.silence = Arc::new(|_| None)).await;
    for through in [1, 2] {
        is_refused_the_name_of_3(&cluster, NodeId(through)).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_answers_keeps_its_name_however_silent_it_seems() {
    let long = Duration::from_secs(60);
    let cluster = Cluster::with(3, |settings| settings.silence = Arc::new(move |_| Some(long))).await;
    let mut leader = cluster.leader().await;
    if leader == NodeId(3) {
        cluster.node(leader).metadata.transfer_leadership().await;
        eventually("another leads", || {
            leader = cluster.nodes[0].metadata.leadership().leader.unwrap_or(NodeId(3));
            leader != NodeId(3)
        })
        .await;
    }
    // What it acknowledged is older than a name is defended for.
    cluster.net.fault(leader, NodeId(3), "Append", Fault::Refused);
    tokio::time::sleep(Duration::from_secs(6)).await;
    is_refused_the_name_of_3(&cluster, leader).await;
    cluster.net.heal();
    cluster.stop().await;
}

/// A snapshot by a leader of the past, whose term is over.
fn past_snapshot(past: NodeId) -> [pb::SnapshotPart; 3] {
    use pb::snapshot_part::Part;
    use sha2::Digest as _;
    let vote = pb::Vote { term: 0, node: past.0, committed: true };
    let log_id = pb::LogId { term: 0, index: 1 << 20, node: past.0 };
    let members = pb::Membership { voters: vec![pb::NodeSet { ids: vec![1] }], nodes: vec![1] };
    let membership = pb::StoredMembership { log_id: Some(log_id), membership: Some(members) };
    let header = pb::SnapshotHeader {
        vote: Some(vote),
        last_log_id: Some(log_id),
        membership: Some(membership),
        format: 1,
        size: 4,
    };
    let digest = sha2::Sha256::digest(b"rows").to_vec().into();
    let parts = [Part::Header(header), Part::Data(b"rows"[..].into()), Part::Digest(digest)];
    parts.map(|part| pb::SnapshotPart { part: Some(part) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_turned_down_leaves_no_file() {
    let cluster = Cluster::new(1).await;
    let past = NodeId(9);
    let channel = (cluster.net.connect(past))(NodeId(1)).await.expect("a channel");
    let parts = past_snapshot(past);
    let mut client = pb::raft_client::RaftClient::new(channel);
    let reply = client.snapshot(futures::stream::iter(parts)).await.expect("an answer").into_inner();
    assert!(reply.vote.expect("a vote").term > 0, "it was not turned down");
    let files: Vec<_> = std::fs::read_dir(cluster.dir(1).join("state"))
        .expect("readable")
        .map(|file| file.expect("readable").file_name())
        .filter(|name| name.to_string_lossy().ends_with(".tmp"))
        .collect();
    assert!(files.is_empty(), "left over: {files:?}");
    drop(client);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_a_copy_of_this_one_is_refused() {
    let cluster = Cluster::new(1).await;
    let me = NodeId(1);
    let channel = (cluster.net.connect(me))(me).await.expect("a channel");
    let term = cluster.nodes[0].metadata.metrics().term;
    let vote = pb::Vote { term, node: me.0, committed: true };
    let entries = pb::AppendRequest { vote: Some(vote), ..Default::default() };
    let answer = pb::raft_client::RaftClient::new(channel).append(entries).await;
    assert_eq!(answer.expect_err("refused").code(), tonic::Code::PermissionDenied);
    cluster.nodes[0].metadata.propose("test", tick(1)).await.expect("it leads as before");
    cluster.stop().await;
}
