//! Schedules of the protocol that need several nodes: a read that joins a round too late to see
//! a write (H3), an entry that cannot travel (C7), a retry that arrives after its successor (H10).
//!
//! Each must hold under our rules, and be violated under the naive rule that is planted.

mod common;

use std::time::Duration;

use common::net::Fault;
use common::{Cluster, Node, eventually, push, repo, tick};
#[cfg(feature = "planted")]
use trow_raft::Variant;
use trow_raft::{Digest, Planted, ProposeError};

const LONG: Duration = Duration::from_secs(10);

fn tagged(node: &Node) -> Option<Digest> {
    let view = node.metadata.local();
    view.tag(&repo("r"), &"t".parse().expect("a tag")).expect("readable").map(|row| row.digest)
}

/// A follower's read is sent at t1; its reply is late. A write is acknowledged meanwhile, which
/// the follower does not get. A read at t2 must see the write or fail.
async fn h3(planted: Planted) -> Result<(), String> {
    let cluster = Cluster::planted(3, planted).await;
    let leader = cluster.leader().await;
    let follower = cluster.nodes.iter().find(|node| node.id != leader).expect("a follower");
    let (first, command) = push(1, 10);
    cluster.node(leader).metadata.propose("test", command).await.expect("applied");
    eventually("the follower has the first", || tagged(follower) == Some(first)).await;

    // Whichever of the others leads by then. A follower that is cut off from entries before it has asked
    // stands for election on a busy machine, and asks nobody.
    let others = || cluster.nodes.iter().filter(|node| node.id != follower.id);
    others().for_each(|other| cluster.net.fault(follower.id, other.id, "ReadIndex", Fault::ReplyHeld));
    let metadata = follower.metadata.clone();
    let early = tokio::spawn(async move { metadata.read(LONG).await.is_ok() });
    // On a busy machine the first one may have timed out, and another be under way, when this looks.
    eventually("a round is under way", || cluster.net.hits() >= 1).await;
    others().for_each(|other| cluster.net.fault(other.id, follower.id, "Append", Fault::Refused));
    let (second, command) = push(2, 10);
    cluster.node(leader).metadata.propose("test", command).await.expect("applied by the others");
    let metadata = follower.metadata.clone();
    let late = tokio::spawn(async move { metadata.read(Duration::from_millis(800)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    cluster.net.lift("ReadIndex");
    let late = late.await.expect("no panic");
    let seen = late.ok().map(|view| view.tag(&repo("r"), &"t".parse().expect("a tag")).expect("readable"));
    cluster.net.heal();
    early.await.expect("no panic");
    cluster.stop().await;
    match seen {
        None => Ok(()),
        Some(Some(row)) if row.digest == second => Ok(()),
        Some(row) => Err(format!("a read after the acknowledged write of {second} saw {row:?}")),
    }
}

/// A follower misses more bytes than one message may have, and an entry above every limit is
/// proposed. Writes must go on, and the follower must catch up.
async fn c7(planted: Planted) -> Result<(), String> {
    let mut cluster = Cluster::planted(3, planted).await;
    let leader = cluster.leader().await;
    let position = cluster.nodes.iter().position(|node| node.id != leader).expect("a follower");
    let away = cluster.nodes.remove(position).stop_and_return().await;
    let metadata = cluster.node(leader).metadata.clone();
    for fill in 0..6 {
        metadata.propose("test", push(fill, 4 << 20).1).await.expect("within the limits");
    }
    let back = Node::start(&cluster.net, away.0, &cluster.dir(away.0), planted).await;
    let target = *metadata.applied().borrow();
    let mut applied = back.metadata.applied();
    let caught_up = tokio::time::timeout(LONG, applied.wait_for(|applied| *applied >= target)).await;
    let caught_up = caught_up.is_ok_and(|applied| applied.is_ok());
    let large = tokio::time::timeout(LONG, metadata.propose("test", push(9, 17 << 20).1)).await;
    let after = tokio::time::timeout(LONG, metadata.propose("test", tick(1))).await;
    back.stop().await;
    cluster.stop().await;
    if !caught_up {
        return Err("a follower that missed 24 MiB never catches up".into());
    }
    match (large, after) {
        (Ok(Err(ProposeError::TooLarge(_))), Ok(Ok(_))) => Ok(()),
        (large, after) => Err(format!("the large entry: {large:?}; the write after it: {after:?}")),
    }
}

/// D1 is applied and the reply lost; D2 is acknowledged; the retry of D1 arrives.
async fn h10(planted: Planted) -> Result<(), String> {
    let cluster = Cluster::planted(3, planted).await;
    let leader = cluster.leader().await;
    let follower = cluster.nodes.iter().find(|node| node.id != leader).expect("a follower");
    cluster.net.fault(follower.id, leader, "Propose", Fault::ReplyHeld);
    let ((one, first), (two, second)) = (push(1, 10), push(2, 10));
    let metadata = follower.metadata.clone();
    let retried = tokio::spawn(async move { metadata.propose("test", first).await });
    eventually("D1 is applied", || tagged(cluster.node(leader)) == Some(one)).await;
    let acknowledged =
        cluster.node(leader).metadata.propose("test", second).await.expect("D2 is acknowledged");
    // The held reply is lost for good; the follower tries again under the same number.
    cluster.net.lose_held();
    retried.await.expect("no panic").expect("the retry has an outcome");
    let view = cluster.node(leader).metadata.read(LONG).await.expect("a quorum");
    let row = view.tag(&repo("r"), &"t".parse().expect("a tag")).expect("readable").expect("it is there");
    drop(view);
    cluster.stop().await;
    if row.digest != two {
        return Err(format!("D2 was acknowledged at {}, the tag is back on D1", acknowledged.index));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h3_a_read_joins_only_a_round_that_starts_after_it() {
    h3(Planted::NONE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c7_what_is_committed_can_always_travel() {
    c7(Planted::NONE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h10_a_retry_is_applied_once() {
    h10(Planted::NONE).await.unwrap();
}

#[cfg(feature = "planted")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h3_joining_a_sent_round_is_caught() {
    // On a busy machine the held round may time out before the write is acknowledged.
    for _ in 0..8 {
        if h3(Planted::new(Variant::H3JoinSentRound)).await.is_err() {
            return;
        }
    }
    panic!("the naive rule was not caught");
}

#[cfg(feature = "planted")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c7_unbounded_entries_are_caught() {
    c7(Planted::new(Variant::C7Unbounded)).await.unwrap_err();
}

#[cfg(feature = "planted")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h10_a_retry_without_the_table_is_caught() {
    h10(Planted::new(Variant::H10NoOutcomeTable)).await.unwrap_err();
}
