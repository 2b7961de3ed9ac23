//! Schedules of unlinking, in one process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
#[cfg(feature = "planted")]
use trow_raft::Variant;
use trow_raft::{Command, Digest, NodeId, Outcome, Planted, Refusal};

use super::{SweepError, Sweeper, Swept};
use crate::copies::tests::sim::{Sim, until};

fn sweeper(sim: &Arc<Sim>, node: u64, planted: Planted) -> Sweeper {
    Sweeper::new(sim.store(node), sim.agreed(node), sim.others(), planted)
}

async fn sweep(sim: &Arc<Sim>, node: u64, planted: Planted) -> Result<Swept, SweepError> {
    sweeper(sim, node, planted).pass(&mut BTreeSet::new(), true).await
}

fn blob(text: &str) -> (Bytes, Digest) {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let digest = Digest::sha256(&bytes);
    (bytes, digest)
}

/// Every committed blob lies on at least W members: what an acknowledged push relies on.
fn survives(sim: &Sim, digest: &Digest) -> Result<(), String> {
    let needed = sim.view(1).write_quorum().unwrap();
    let holders = sim.holders(digest);
    let known = sim.view(1).blob(digest).unwrap().is_some();
    if known && holders.len() < needed {
        return Err(format!("the state promises {needed} copies, there are {holders:?}"));
    }
    Ok(())
}

/// C2 (i): node 2 acknowledges a blob, restarts, and sweeps what the state does not know before
/// the commit that names it is applied.
async fn restart_between_hold_and_commit(planted: Planted) -> Result<(), String> {
    let sim = Sim::new(3, 3, &[1, 2, 3], planted);
    let (bytes, digest) = blob("i");
    let first = sim.hold(1, &bytes).await;
    let second = sim.hold(2, &bytes).await;
    sim.restart(2);
    sweep(&sim, 2, planted).await.map_err(|err| err.to_string())?;
    let committed = sim.commit_blob(&bytes, &[(1, first.generation), (2, second.generation)]);
    survives(&sim, &digest)?;
    // The proposer gathers again, and finds what is there.
    if committed != Some(Outcome::Done) {
        assert!(matches!(committed, Some(Outcome::Refused(Refusal::StaleEvidence { .. }))), "{committed:?}");
        let again = sim.hold(2, &bytes).await;
        let committed = sim.commit_blob(&bytes, &[(1, first.generation), (2, again.generation)]);
        assert_eq!(committed, Some(Outcome::Done));
        survives(&sim, &digest)?;
    }
    Ok(())
}

/// C2 (ii): a blob is reclaimed; node 1, which has not applied that yet, vouches for it to
/// somebody who pushes it again; then it applies the reclaim and sweeps.
async fn vouching_while_behind(planted: Planted) -> Result<(), String> {
    let sim = Sim::new(3, 3, &[1, 2, 3], planted);
    let (bytes, digest) = blob("ii");
    sim.push(&bytes, &[1, 2]).await;
    for node in [1, 2] {
        // Long ago: nothing protects it but the state.
        sweep(&sim, node, Planted::NONE).await.map_err(|err| err.to_string())?;
        let store = sim.store(node);
        let next = store.reserve_generation(store.generation()).await.unwrap();
        sim.commit(Command::FenceStore { node: NodeId(node), generation: next });
        store.adopt_generation(next);
    }
    let repo = "team/app".parse().unwrap();
    sim.follow(1, false);
    sim.commit(Command::DeleteLink { repo, digest });
    sim.commit(Command::Tick { elapsed: 1 << 40 });
    sim.commit(Command::Reclaim { links: Vec::new(), blobs: vec![digest], before: 1 << 40 });
    assert!(sim.view(2).blob(&digest).unwrap().is_none(), "not reclaimed");
    let first = sim.store(1).confirm(&digest).await.unwrap().unwrap();
    let second = sim.store(2).confirm(&digest).await.unwrap().unwrap();
    sim.follow(1, true);
    sweep(&sim, 1, planted).await.map_err(|err| err.to_string())?;
    sim.commit_blob(&bytes, &[(1, first.generation), (2, second.generation)]);
    survives(&sim, &digest)
}

/// C2 (iii): a proposer wakes after hours with evidence of generations long gone.
async fn evidence_from_long_ago(planted: Planted) -> Result<(), String> {
    let sim = Sim::new(3, 3, &[1, 2, 3], planted);
    let (bytes, digest) = blob("iii");
    let first = sim.hold(1, &bytes).await;
    let second = sim.hold(2, &bytes).await;
    for _ in 0..3 {
        sweep(&sim, 1, Planted::NONE).await.map_err(|err| err.to_string())?;
        sweep(&sim, 2, Planted::NONE).await.map_err(|err| err.to_string())?;
    }
    assert_eq!(sim.holders(&digest), BTreeSet::new(), "an abandoned upload stays for ever");
    sim.commit_blob(&bytes, &[(1, first.generation), (2, second.generation)]);
    survives(&sim, &digest)
}

async fn schedule(planted: Planted) -> Result<(), String> {
    restart_between_hold_and_commit(planted).await?;
    vouching_while_behind(planted).await?;
    evidence_from_long_ago(planted).await
}

#[tokio::test]
async fn c2_nothing_is_unlinked_under_an_acknowledgement() {
    schedule(Planted::NONE).await.unwrap();
}

#[cfg(feature = "planted")]
#[tokio::test]
async fn c2_sweeping_without_a_fence_is_caught() {
    let planted = Planted::new(Variant::C2NoFence);
    restart_between_hold_and_commit(planted).await.unwrap_err();
    vouching_while_behind(planted).await.unwrap_err();
}

#[cfg(feature = "planted")]
#[tokio::test]
async fn c2_accepting_old_evidence_is_caught() {
    evidence_from_long_ago(Planted::new(Variant::C2OldEvidence)).await.unwrap_err();
}

#[tokio::test]
async fn a_copy_goes_only_when_every_owner_confirms_it() {
    let sim = Sim::new(5, 3, &[1, 2, 3], Planted::NONE);
    let (bytes, digest) = blob("stray");
    sim.push(&bytes, &[1, 2, 3]).await;
    sim.hold(4, &bytes).await;
    sim.reach(3, false);
    assert_eq!(sweep(&sim, 4, Planted::NONE).await.unwrap(), Swept { unlinked: 0, left: 1 });
    sim.reach(3, true);
    assert_eq!(sweep(&sim, 4, Planted::NONE).await.unwrap(), Swept { unlinked: 1, left: 0 });
    for owner in [1, 2, 3] {
        assert_eq!(sweep(&sim, owner, Planted::NONE).await.unwrap(), Swept::default());
    }
    assert_eq!(sim.holders(&digest), BTreeSet::from([1, 2, 3]));
}

#[tokio::test]
async fn away_holders_and_sources_keep_their_copies() {
    let sim = Sim::new(5, 3, &[1, 2, 3], Planted::NONE);
    let (away, away_digest) = blob("away");
    sim.push(&away, &[4, 5]).await;
    let (moving, moving_digest) = blob("moving");
    sim.push(&moving, &[1, 2, 3]).await;
    sim.own(&[3, 4, 5]);
    for node in 1..=5 {
        assert_eq!(sweep(&sim, node, Planted::NONE).await.unwrap().unlinked, 0);
    }
    assert_eq!(sim.holders(&away_digest), BTreeSet::from([4, 5]));
    assert_eq!(sim.holders(&moving_digest), BTreeSet::from([1, 2, 3]));
}

#[tokio::test]
async fn a_node_that_lags_unlinks_nothing_and_nothing_goes_without_a_quorum() {
    let sim = Sim::new(3, 3, &[1, 2, 3], Planted::NONE);
    let (bytes, digest) = blob("unknown");
    sim.hold(1, &bytes).await;
    sim.restart(1);
    for node in 1..=3 {
        sim.follow(node, false);
    }
    assert!(matches!(sweep(&sim, 1, Planted::NONE).await, Err(SweepError::Propose(_))));
    assert_eq!(sim.holders(&digest), BTreeSet::from([1]));
}

#[tokio::test]
async fn the_running_sweeper_follows_what_is_settled() {
    let sim = Sim::new(5, 3, &[1, 2, 3], Planted::NONE);
    let running = tokio::spawn(sweeper(&sim, 4, Planted::NONE).run());
    let (bytes, digest) = blob("home at last");
    sim.push(&bytes, &[4, 5]).await;
    let mut evidence = Vec::new();
    for owner in [1, 2, 3] {
        evidence.push(sim.hold(owner, &bytes).await.evidence(NodeId(owner)));
    }
    assert!(sim.holders(&digest).contains(&4));
    sim.commit(Command::SettleBlobs { blobs: vec![(digest, evidence)] });
    until("the away copy goes", Duration::from_secs(60), || !sim.holders(&digest).contains(&4)).await;
    assert_eq!(sim.holders(&digest), BTreeSet::from([1, 2, 3, 5]));
    running.abort();
}

#[tokio::test]
async fn a_lost_blob_comes_back_with_the_node_that_has_it() {
    let sim = Sim::new(4, 3, &[1, 2, 3], Planted::NONE);
    let (bytes, digest) = blob("back");
    sim.push(&bytes, &[1, 2, 3]).await;
    sim.hold(4, &bytes).await;
    let seen = sim.view(1).applied().unwrap();
    sim.commit(Command::SetLost { digests: vec![digest], seen });
    for node in [1, 2, 3] {
        sim.store(node).unlink(&digest, |_| true).await.unwrap();
    }
    sweep(&sim, 4, Planted::NONE).await.unwrap();
    let row = sim.view(1).blob(&digest).unwrap().unwrap();
    assert!(!row.lost && row.away == [NodeId(4)], "{row:?}");
    assert_eq!(sim.holders(&digest), BTreeSet::from([4]));
}

#[tokio::test]
async fn cached_files_stay_until_they_are_durable_elsewhere_and_garbage_goes() {
    let sim = Sim::new(5, 3, &[1, 2, 3], Planted::NONE);
    let (cached, cached_digest) = blob("cached");
    let (garbage, garbage_digest) = blob("garbage");
    let mut staged = sim.store(4).stage(None).await.unwrap();
    staged.write(cached.clone()).await.unwrap();
    staged.keep(&cached_digest).await.unwrap();
    sim.hold(4, &garbage).await;
    for _ in 0..3 {
        sweep(&sim, 4, Planted::NONE).await.unwrap();
    }
    assert_eq!(sim.holders(&garbage_digest), BTreeSet::new());
    assert_eq!(sim.holders(&cached_digest), BTreeSet::from([4]));
    // Pushed to others, it is a copy too many here like any other.
    sim.push(&cached, &[1, 2, 3]).await;
    assert_eq!(sweep(&sim, 4, Planted::NONE).await.unwrap(), Swept { unlinked: 1, left: 0 });
    assert_eq!(sim.holders(&cached_digest), BTreeSet::from([1, 2, 3]));
    assert_eq!(sim.store(4).cached().blobs, 0);
}
