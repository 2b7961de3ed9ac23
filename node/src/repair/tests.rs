//! Repair among stores in one process.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use tokio::task::JoinHandle;
use trow_raft::{Changes, Digest, NodeId, PartitionId, Planted};

use super::Repair;
use crate::copies::audit::{Audit, Auditor};
use crate::copies::tests::sim::{Sim, until};
use crate::copies::{Agreed, Others};

const LIMIT: Duration = Duration::from_secs(60);

struct Running(Vec<JoinHandle<()>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

fn run(sim: &Arc<Sim>, nodes: &[u64]) -> Running {
    let start = |node: &u64| {
        let repair = Repair::new(sim.store(*node), sim.agreed(*node), sim.others(), 0);
        tokio::spawn(repair.run())
    };
    Running(nodes.iter().map(start).collect())
}

fn blobs(count: usize) -> Vec<(Bytes, Digest)> {
    let make = |i| {
        let bytes = Bytes::from(format!("blob {i}").repeat(50));
        let digest = Digest::sha256(&bytes);
        (bytes, digest)
    };
    (0..count).map(make).collect()
}

fn audit(sim: &Sim, node: u64) -> Audit {
    Auditor::new(sim.store(node), sim.agreed(node)).audit().unwrap()
}

fn ready(sim: &Sim) -> bool {
    sim.view(1).partitions().unwrap().iter().all(|partition| partition.is_ready())
}

#[tokio::test]
async fn the_copies_a_commit_lacks_are_made_right_after_it() {
    let sim = Sim::new(3, 3, &[1, 2, 3], Planted::NONE);
    let _running = run(&sim, &[1, 2, 3]);
    until("all are ready", LIMIT, || ready(&sim)).await;
    let (bytes, digest) = blobs(1).remove(0);
    sim.push(&bytes, &[1, 2]).await;
    until("the third copy", Duration::from_secs(20), || sim.holders(&digest).len() == 3).await;
    assert_eq!(audit(&sim, 3), Audit::default());
}

#[tokio::test]
async fn blobs_held_elsewhere_come_home_and_are_settled() {
    let sim = Sim::new(5, 3, &[1, 2, 3], Planted::NONE);
    let all = blobs(40);
    for (bytes, _) in &all {
        sim.push(bytes, &[4, 5]).await;
    }
    assert_eq!(sim.view(1).away_count().unwrap(), 40);
    let _running = run(&sim, &[1, 2, 3, 4, 5]);
    until("nothing is away", LIMIT, || sim.view(1).away_count().unwrap() == 0).await;
    until("all copies", LIMIT, || (1..=3).all(|node| audit(&sim, node).missing == 0)).await;
    until("all are ready", LIMIT, || ready(&sim)).await;
    assert_eq!(audit(&sim, 4), Audit { missing: 0, strays: 40 });
}

#[tokio::test]
async fn a_blob_that_came_after_its_partition_moved_on_is_not_kept() {
    let sim = Sim::new(3, 2, &[1, 2], Planted::NONE);
    let (bytes, digest) = blobs(1).remove(0);
    sim.push(&bytes, &[1, 2]).await;
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let go = tokio_util::sync::CancellationToken::new();
    let (fetch, gate) = (sim.others().fetch, go.clone());
    let slow = Others {
        fetch: Arc::new(move |node, digest| {
            let (fetch, gate, begun) = (fetch.clone(), gate.clone(), begun.clone());
            async move {
                let body = fetch(node, digest).await?;
                begun.send(()).unwrap();
                gate.cancelled().await;
                Ok(body)
            }
            .boxed()
        }),
        ..sim.others()
    };
    sim.own(&[2, 3]);
    let repair = Repair::new(sim.store(3), sim.agreed(3), slow, 0);
    let meter = repair.meter().clone();
    let _running = Running(vec![tokio::spawn(repair.run())]);
    tokio::time::timeout(LIMIT, begins.recv()).await.unwrap();
    sim.own(&[1, 2]);
    go.cancel();
    until("the fetch is over", LIMIT, || meter.queue.get() == 0).await;
    assert_eq!(sim.holders(&digest), BTreeSet::from([1, 2]));
}

#[tokio::test]
async fn moved_partitions_are_ready_only_with_all_their_blobs() {
    let sim = Sim::new(4, 2, &[1, 2], Planted::NONE);
    let all = blobs(60);
    {
        let _running = run(&sim, &[1, 2]);
        for (bytes, _) in &all {
            sim.push(bytes, &[1, 2]).await;
        }
        until("all are ready", LIMIT, || ready(&sim)).await;
    }
    sim.own(&[3, 4]);
    sim.reach(1, false);
    let _running = run(&sim, &[3]);
    let has_all = |node| all.iter().all(|(_, digest)| sim.holders(digest).contains(&node));
    until("the first new owner has all", LIMIT, || has_all(3)).await;
    let said = |node: u64| {
        let partitions = sim.view(1).partitions().unwrap();
        let said = |owner: &trow_raft::Owner| owner.node == NodeId(node) && owner.ready;
        partitions.iter().filter(|partition| partition.owners.iter().any(said)).count()
    };
    until("it says so", LIMIT, || said(3) == usize::from(PartitionId::COUNT)).await;
    assert_eq!(said(4), 0);
    let sources = sim.view(1).partitions().unwrap();
    assert!(sources.iter().all(|partition| partition.sources == [NodeId(1), NodeId(2)]));
    let _more = run(&sim, &[4]);
    until("all are ready", LIMIT, || ready(&sim)).await;
    assert!(has_all(4));
}

#[tokio::test]
async fn a_partition_with_an_unreachable_blob_is_not_ready() {
    let sim = Sim::new(3, 2, &[1, 2], Planted::NONE);
    let (bytes, digest) = blobs(1).remove(0);
    sim.push(&bytes, &[1, 2]).await;
    sim.reach(1, false);
    sim.reach(2, false);
    sim.own(&[2, 3]);
    let _running = run(&sim, &[3]);
    let ready = || {
        let partitions = sim.view(1).partitions().unwrap();
        let said = |owner: &trow_raft::Owner| owner.node == NodeId(3) && owner.ready;
        let mut not = Vec::new();
        for (id, partition) in PartitionId::all().zip(partitions) {
            if !partition.owners.iter().any(said) {
                not.push(id);
            }
        }
        not
    };
    until("the others are ready", LIMIT, || ready().len() <= 1).await;
    assert_eq!(ready(), [digest.partition()]);
    assert!(!sim.view(1).blob(&digest).unwrap().unwrap().lost, "unreachable is not denied");
    sim.reach(1, true);
    until("it is ready too", LIMIT, || ready().is_empty()).await;
}

#[tokio::test]
async fn wrong_bytes_of_a_source_are_not_kept_and_the_next_one_is_asked() {
    let sim = Sim::new(3, 3, &[1, 2, 3], Planted::NONE);
    let (bytes, digest) = blobs(1).remove(0);
    sim.push(&bytes, &[1, 2]).await;
    // Node 1 sends other bytes; its checksums are its own to make.
    let (honest, lies) = (sim.others(), Arc::new(AtomicUsize::new(0)));
    let (fetch, told) = (honest.fetch.clone(), lies.clone());
    let lying = move |node, digest| {
        let (body, told) = (fetch(node, digest), told.clone());
        async move {
            let body = body.await?.map_ok(move |bytes| match node {
                NodeId(1) => {
                    told.fetch_add(1, Ordering::Relaxed);
                    Bytes::from(vec![b'x'; bytes.len()])
                }
                _ => bytes,
            });
            Ok(body.boxed())
        }
        .boxed()
    };
    let others = Others { fetch: Arc::new(lying), ..honest };
    let repair = Repair::new(sim.store(3), sim.agreed(3), others, 0);
    let _running = Running(vec![tokio::spawn(repair.run())]);
    until("the copy is there", LIMIT, || sim.holders(&digest).contains(&3)).await;
    assert!(lies.load(Ordering::Relaxed) > 0, "nobody lied");
    assert_eq!(fs::read(sim.path(3, &digest)).unwrap(), bytes);
    assert_eq!(sim.store(3).verify(&digest).await.unwrap(), Some(true));
}

#[tokio::test]
async fn a_damaged_blob_is_healed_from_a_peer() {
    let sim = Sim::new(3, 3, &[1, 2, 3], Planted::NONE);
    let (bytes, digest) = blobs(1).remove(0);
    sim.push(&bytes, &[1, 2, 3]).await;
    let _running = run(&sim, &[1]);
    until("repair has begun", LIMIT, || {
        sim.view(1).partitions().unwrap().iter().all(|partition| partition.owners[0].ready)
    })
    .await;
    fs::write(sim.path(1, &digest), vec![0; bytes.len()]).unwrap();
    assert_eq!(sim.store(1).verify(&digest).await.unwrap(), Some(false));
    until("it is healed", Duration::from_secs(20), || sim.store(1).has(&digest).is_some()).await;
    assert_eq!(fs::read(sim.path(1, &digest)).unwrap(), bytes);
}

#[tokio::test]
async fn a_truncated_blob_is_found_at_start_and_fetched_again() {
    let sim = Sim::new(3, 3, &[1, 2, 3], Planted::NONE);
    let (bytes, digest) = blobs(1).remove(0);
    sim.push(&bytes, &[1, 2, 3]).await;
    fs::write(sim.path(1, &digest), b"").unwrap();
    let _running = run(&sim, &[1]);
    until("it is whole", LIMIT, || sim.store(1).has(&digest) == Some(bytes.len() as u64)).await;
    assert_eq!(sim.store(1).verify(&digest).await.unwrap(), Some(true));
}

#[tokio::test]
async fn a_blob_that_every_member_denies_is_recorded_lost() {
    let sim = Sim::new(3, 3, &[1, 2, 3], Planted::NONE);
    let (bytes, digest) = blobs(1).remove(0);
    sim.push(&bytes, &[1, 2]).await;
    for node in [1, 2] {
        assert!(sim.store(node).unlink(&digest, |_| true).await.unwrap());
    }
    let lost = || sim.view(1).blob(&digest).unwrap().unwrap().lost;
    let _running = run(&sim, &[1, 2, 3]);
    until("it is lost", LIMIT, lost).await;
    until("all are ready without it", LIMIT, || ready(&sim)).await;
    // Somebody pushes it again.
    sim.push(&bytes, &[1, 2]).await;
    assert!(!lost());
    until("it is repaired", LIMIT, || sim.holders(&digest) == BTreeSet::from([1, 2, 3])).await;
}

#[tokio::test]
async fn an_audit_sees_each_change_of_files_and_state() {
    let sim = Sim::new(4, 2, &[1, 2], Planted::NONE);
    let auditor = Auditor::new(sim.store(2), sim.agreed(2));
    let now = || auditor.audit().unwrap();
    assert_eq!(now(), Audit::default());
    let all = blobs(3);
    sim.push(&all[0].0, &[3, 4]).await;
    assert_eq!(now(), Audit { missing: 1, strays: 0 });
    sim.hold(2, &all[0].0).await;
    assert_eq!(now(), Audit::default());
    sim.hold(2, &all[1].0).await;
    assert_eq!(now(), Audit::default(), "the state does not know it");
    sim.own(&[3, 4]);
    assert_eq!(now(), Audit { missing: 0, strays: 1 });
    sim.store(2).unlink(&all[0].1, |_| true).await.unwrap();
    assert_eq!(now(), Audit::default());
}

#[tokio::test]
async fn an_audit_covers_what_could_be_seen_before_it_while_a_change_goes_on() {
    let sim = Sim::new(3, 2, &[1, 2], Planted::NONE);
    let (bytes, _) = blobs(1).remove(0);
    sim.push(&bytes, &[1, 2]).await;
    // What node 3 sees is the state before the change, what node 2 sees the one after it.
    sim.follow(3, false);
    let (before, after) = (sim.agreed(3).view, sim.agreed(2).view);
    sim.own(&[1, 3]);
    let (visible, changes) = (Arc::new(AtomicBool::new(false)), Arc::new(Changes::default()));
    let seen = visible.clone();
    let view = move || if seen.load(Ordering::Relaxed) { after() } else { before() };
    let agreed = Agreed { view: Arc::new(view), changes: changes.clone(), ..sim.agreed(2) };
    let auditor = Auditor::new(sim.store(2), agreed);
    let now = || auditor.audit().unwrap();
    let strayed = Audit { missing: 0, strays: 1 };
    changes.during_everything(|| {
        assert_eq!(now(), Audit::default(), "not visible yet");
        visible.store(true, Ordering::Relaxed);
        assert_eq!(now(), strayed, "visible, and the change not at its end");
    });
    assert_eq!(now(), strayed);
}
