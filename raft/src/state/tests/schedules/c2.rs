//! C2, apply's half: a node's word is void once its store was fenced.

use super::super::bench::{Bench, commit, held_by, node};
use super::Disks;
use crate::command::{Command, Outcome};
use crate::digest::Digest;
use crate::id::Generation;
use crate::planted::Planted;
#[cfg(feature = "planted")]
use crate::planted::Variant;

/// 1 and 2 hold a blob and say so. 2 restarts, fences and sweeps what the state does not know.
/// The proposer wakes after that and commits what they had said.
fn schedule(planted: Planted) -> Result<(), String> {
    let mut bench = Bench::born(planted, 3, 3);
    let mut disks = Disks::default();
    let x = Digest::sha256(b"x");
    bench.own(&x, &[1, 2, 3]);
    disks.store(&[1, 2], x);
    let said = held_by(&[1, 2]);
    bench.done(Command::FenceStore { node: node(2), generation: Generation(2) });
    disks.unlink(2, &x);
    let acknowledged = bench.run(commit("r", x, said)) == Outcome::Done;
    if acknowledged && disks.copies(&x) < 2 {
        return Err(format!("acknowledged with {} of 2 copies", disks.copies(&x)));
    }
    // A late fence must not bring the old word back.
    let late = bench.run(Command::FenceStore { node: node(2), generation: Generation(1) });
    if late == Outcome::Done {
        return Err("a store went back to an older generation".into());
    }
    // What it says now counts.
    disks.store(&[2], x);
    let mut evidence = held_by(&[1, 2]);
    evidence[1].generation = Generation(2);
    match bench.run(commit("r", x, evidence)) {
        Outcome::Done => Ok(()),
        refused => Err(format!("current evidence is refused: {refused:?}")),
    }
}

#[test]
fn c2_a_fence_voids_what_the_node_said_before() {
    assert_eq!(schedule(Planted::NONE), Ok(()));
}

#[cfg(feature = "planted")]
#[test]
fn c2_old_evidence_is_caught() {
    super::is_caught(schedule, Variant::C2OldEvidence);
}
