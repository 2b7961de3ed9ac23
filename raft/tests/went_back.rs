//! A node that comes back on an older copy of its data directory, which must never be done.

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Cluster, Node, eventually, tick};
use trow_raft::NodeId;

const LONG: Duration = Duration::from_secs(10);

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("make");
    for entry in std::fs::read_dir(from).expect("list") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copy");
        }
    }
}

async fn restart(cluster: &mut Cluster, id: NodeId, change: impl FnOnce(&Path)) {
    let position = cluster.nodes.iter().position(|node| node.id == id).expect("it is one of them");
    cluster.nodes.remove(position).stop().await;
    change(&cluster.dir(id.0));
    let node = Node::start(&cluster.net, id.0, &cluster.dir(id.0), Default::default()).await;
    cluster.nodes.push(node);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_went_back_is_refused_and_the_leader_goes_on() {
    // Another leader would not know what was acknowledged, and a busy machine may elect one.
    for _ in 0..5 {
        if under_one_leader().await {
            return;
        }
    }
    panic!("no leader stays in office");
}

/// The scenario; false when there was an election before it was over.
async fn under_one_leader() -> bool {
    let mut cluster = Cluster::new(3).await;
    let leader = cluster.leader().await;
    let id = cluster.nodes.iter().map(|node| node.id).find(|id| *id != leader).expect("a follower");
    let lead = cluster.node(leader).metadata.clone();
    let aside = cluster.dirs.path().join("aside");

    let term = lead.metrics().term;
    lead.propose("test", tick(1)).await.expect("applied");
    restart(&mut cluster, id, |dir| copy(dir, &aside)).await;
    let acknowledged = lead.propose("test", tick(1)).await.expect("applied").index;
    let follower = cluster.node(id).metadata.clone();
    // It applies what it has not acknowledged yet; it is sent more when the leader heard that it did.
    let later = lead.propose("test", tick(1)).await.expect("applied").index;
    eventually("the follower has it", || *follower.applied().borrow() >= later).await;
    drop(follower);

    restart(&mut cluster, id, |dir| {
        std::fs::remove_dir_all(dir).expect("remove");
        copy(&aside, dir);
    })
    .await;
    let back = cluster.node(id).metadata.clone();
    let mut steady = true;
    for _ in 0..100 {
        lead.propose("test", tick(1)).await.expect("the others go on");
        let taken = *back.applied().borrow() >= acknowledged;
        steady = lead.metrics().term == term;
        if !steady {
            break;
        }
        assert!(!taken, "it is taken for the node that it was");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if steady {
        assert_eq!(lead.read(LONG).await.expect("a quorum").time().expect("readable"), 103);
    }
    drop(back);
    cluster.stop().await;
    steady
}
