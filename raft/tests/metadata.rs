//! The handle from outside: one node, three nodes, loss of one, restart, joining.

mod common;

use std::time::Duration;

use common::{Cluster, eventually, tick};
use trow_raft::{Metadata, NodeId, OpenError, Outcome, ProposeError, Settings};

const LONG: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_node_proposes_reads_and_comes_back() {
    let cluster = Cluster::new(1).await;
    let one = &cluster.nodes[0];
    let applied = one.metadata.propose("test", tick(5)).await.expect("applied");
    assert_eq!(applied.outcome, Outcome::Done);
    let view = one.metadata.read(LONG).await.expect("a quorum of one");
    assert!(view.applied().expect("readable") >= applied.index);
    assert_eq!(view.time().expect("readable"), 5);
    let id = view.cluster().expect("readable");
    drop(view);

    let (net, dir) = (cluster.net.clone(), cluster.dir(1));
    let Cluster { mut nodes, dirs, .. } = cluster;
    nodes.remove(0).stop().await;
    let again = common::Node::start(&net, 1, &dir, Default::default()).await;
    assert!(again.metadata.has_log());
    let view = again.metadata.read(LONG).await.expect("a quorum of one");
    assert_eq!((view.time().expect("readable"), view.cluster().expect("readable")), (5, id));
    again.stop().await;
    drop(dirs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_agree_and_survive_the_loss_of_the_leader() {
    let mut cluster = Cluster::new(3).await;
    for node in &cluster.nodes {
        node.metadata.propose("test", tick(1)).await.expect("any node proposes");
    }
    let leader = cluster.leader().await;
    let position = cluster.nodes.iter().position(|node| node.id == leader).expect("it is one of them");
    let lost = cluster.nodes.remove(position);
    lost.stop().await;
    let survivor = &cluster.nodes[0].metadata;
    let start = std::time::Instant::now();
    let applied = loop {
        match survivor.propose("test", tick(1)).await {
            Ok(applied) => break applied,
            Err(error) => assert!(start.elapsed() < LONG, "{error}"),
        }
    };
    println!("first write {:?} after the leader was lost", start.elapsed());
    for node in &cluster.nodes {
        let view = node.metadata.read(LONG).await.expect("two of three are a quorum");
        assert!(view.applied().expect("readable") >= applied.index);
        assert_eq!(view.time().expect("readable"), 4);
    }
    let back = common::Node::start(&cluster.net, leader.0, &cluster.dir(leader.0), Default::default()).await;
    let caught_up = || *back.metadata.applied().borrow() >= applied.index;
    eventually("the lost node catches up", caught_up).await;
    assert_eq!(back.metadata.local().time().expect("readable"), 4);
    back.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_writes_and_reads_say_so() {
    let mut cluster = Cluster::new(3).await;
    let alone = cluster.nodes.remove(0);
    let (a, b) = (cluster.nodes[0].id, cluster.nodes[1].id);
    cluster.net.cut(alone.id, a);
    cluster.net.cut(alone.id, b);
    eventually("the cut-off node knows", || !alone.metadata.leadership().quorum).await;
    let error = alone.metadata.propose("test", tick(1)).await.expect_err("no quorum");
    assert!(matches!(error, ProposeError::NoLeader | ProposeError::Unknown(_)), "{error}");
    assert!(alone.metadata.read(Duration::from_secs(1)).await.is_err());
    cluster.nodes[0].metadata.propose("test", tick(1)).await.expect("the others go on");
    cluster.net.heal();
    eventually("it is back", || alone.metadata.leadership().quorum).await;
    alone.metadata.read(LONG).await.expect("a quorum");
    alone.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_thousand_proposals_at_once_each_apply_once_and_share_fsyncs() {
    let cluster = Cluster::new(3).await;
    let leader = cluster.leader().await;
    let other = cluster.nodes.iter().find(|node| node.id != leader).expect("a follower");
    let before = cluster.node(leader).metadata.metrics().log_fsyncs;
    let proposals = (0..3000).map(|_| {
        let metadata = other.metadata.clone();
        tokio::spawn(async move {
            loop {
                // On a busy machine those at the end of the queue are told so; nothing was done.
                match metadata.propose("test", tick(1)).await {
                    Err(ProposeError::Busy) => {}
                    other => return other,
                }
            }
        })
    });
    for applied in futures::future::join_all(proposals).await {
        assert_eq!(applied.expect("no panic").expect("applied").outcome, Outcome::Done);
    }
    let view = other.metadata.read(LONG).await.expect("a quorum");
    assert_eq!(view.time().expect("readable"), 3000);
    drop(view);
    let fsyncs = cluster.node(leader).metadata.metrics().log_fsyncs - before;
    assert!(fsyncs < 1500, "{fsyncs} fsyncs for 3000 entries");
    println!("{fsyncs} fsyncs for 3000 entries");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_log_does_not_start() {
    let mut cluster = Cluster::new(1).await;
    let dir = cluster.dir(1);
    cluster.nodes.remove(0).stop().await;
    let log = dir.join("log.redb");
    let kept = dir.join("kept");
    let fresh = dir.join("fresh");
    std::fs::rename(&log, &kept).expect("moved");
    let other = common::Node::start(&cluster.net, 2, &fresh, Default::default()).await;
    other.stop().await;
    let damages: [(&str, &dyn Fn()); 3] = [
        ("missing", &|| ()),
        ("empty", &|| std::fs::write(&log, b"").expect("written")),
        ("new", &|| assert!(std::fs::copy(fresh.join("log.redb"), &log).expect("copied") > 0)),
    ];
    for (what, damage) in damages {
        damage();
        let opened = Metadata::open(Settings::alone(NodeId(1), &dir)).await;
        let Err(error) = opened else { panic!("it started with a log that is {what}") };
        assert!(matches!(error, OpenError::LogLost { .. }), "{what}: {error}");
    }
    std::fs::rename(&kept, &log).expect("moved");
    common::Node::start(&cluster.net, 1, &dir, Default::default()).await.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_start_counter_is_still_heard() {
    let mut cluster = Cluster::new(1).await;
    let dir = cluster.dir(1);
    cluster.nodes.remove(0).stop().await;
    common::Node::start(&cluster.net, 1, &dir, Default::default()).await.stop().await;
    std::fs::remove_file(dir.join("boot")).expect("removed");
    let again = common::Node::start(&cluster.net, 1, &dir, Default::default()).await;
    let applied = again.metadata.propose("test", tick(5)).await.expect("applied");
    assert_eq!(applied.outcome, Outcome::Done);
    assert_eq!(again.metadata.read(LONG).await.expect("a quorum").time().expect("readable"), 5);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_time_passes_as_long_as_somebody_leads() {
    let tick = Duration::from_millis(500);
    let mut cluster = Cluster::with(3, |settings| settings.tick = tick).await;
    let begun = std::time::Instant::now();
    let time = |node: &common::Node| Duration::from_millis(node.metadata.local().time().expect("readable"));
    eventually("time passes on all", || cluster.nodes.iter().all(|node| time(node) >= 2 * tick)).await;
    let leader = cluster.leader().await;
    let position = cluster.nodes.iter().position(|node| node.id == leader).expect("it is one of them");
    cluster.nodes.remove(position).stop().await;
    let before = cluster.nodes.iter().map(time).max().expect("two are left");
    eventually("it passes on", || cluster.nodes.iter().all(|node| time(node) > before)).await;
    // Graces may get longer, never shorter.
    assert!(cluster.nodes.iter().all(|node| time(node) <= begun.elapsed() + tick));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_waited_for_on_a_member_that_lags_and_not_on_one_that_is_away() {
    let cluster = Cluster::new(3).await;
    let leader = cluster.leader().await;
    let lagging = cluster.nodes.iter().find(|node| node.id != leader).expect("a follower");
    let metadata = cluster.node(leader).metadata.clone();
    cluster.net.fault(leader, lagging.id, "Append", common::net::Fault::Refused);
    let index = metadata.propose("test", tick(1)).await.expect("applied by the others").index;
    let waiting = metadata.clone();
    let everywhere = tokio::spawn(async move { waiting.wait_applied_everywhere(index, LONG).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(*lagging.metadata.applied().borrow() < index, "it does not lag");
    assert!(!everywhere.is_finished(), "it is not waited for");
    cluster.net.lift("Append");
    tokio::time::timeout(LONG, everywhere).await.expect("it catches up").expect("no panic");
    assert!(*lagging.metadata.applied().borrow() >= index);

    cluster.net.cut(leader, lagging.id);
    let index = metadata.propose("test", tick(1)).await.expect("applied by the others").index;
    let began = std::time::Instant::now();
    metadata.wait_applied_everywhere(index, LONG).await;
    assert!(began.elapsed() < LONG / 2, "it waited {:?}", began.elapsed());
    cluster.net.heal();
    cluster.stop().await;
}
