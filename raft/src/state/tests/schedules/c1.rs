//! C1: the state must know where a blob is durable before anything refers to it.

use super::super::bench::{Bench, commit, held_by, manifest, put};
use super::Disks;
use crate::command::{Command, Outcome};
use crate::digest::Digest;
use crate::id::Generation;
use crate::planted::Planted;
#[cfg(feature = "planted")]
use crate::planted::Variant;

fn schedule(planted: Planted) -> Result<(), String> {
    thin_evidence(planted)?;
    moved_away(planted)
}

/// One node holds the blob and is named twice; then that node is lost.
fn thin_evidence(planted: Planted) -> Result<(), String> {
    let mut bench = Bench::born(planted, 5, 3);
    let mut disks = Disks::default();
    let x = Digest::sha256(b"x");
    bench.own(&x, &[1, 2, 3]);
    disks.store(&[1], x);
    let acknowledged = bench.run(commit("r", x, held_by(&[1, 1]))) == Outcome::Done;
    disks.lose(1);
    if acknowledged && disks.copies(&x) == 0 {
        return Err("an acknowledged blob is gone with one node".into());
    }
    Ok(())
}

/// Two owners hold the blob, unknown to the state. The partition moves, the new owners are ready
/// since they lack nothing known, the old ones sweep. Only then is the blob committed.
fn moved_away(planted: Planted) -> Result<(), String> {
    let mut bench = Bench::born(planted, 5, 3);
    let mut disks = Disks::default();
    let x = Digest::sha256(b"x");
    bench.own(&x, &[1, 2, 3]);
    disks.store(&[1, 2], x);
    let evidence = held_by(&[1, 2]);
    let added_at = bench.own(&x, &[3, 4, 5]);
    for number in [3, 4, 5] {
        bench.ready(number, x.partition(), added_at);
    }
    for number in [1, 2] {
        bench
            .done(Command::FenceStore { node: super::super::bench::node(number), generation: Generation(2) });
        disks.unlink(number, &x);
    }
    let manifest = manifest("m", &[x], &[]);
    if bench.run(put("r", &manifest, &["latest"])) == Outcome::Done {
        return Err("a manifest names a blob that was never committed".into());
    }
    let acknowledged = bench.run(commit("r", x, evidence)) == Outcome::Done;
    if acknowledged && disks.copies(&x) == 0 {
        return Err("a blob was acknowledged that nobody holds".into());
    }
    Ok(())
}

#[test]
fn c1_a_blob_is_acknowledged_only_where_w_members_hold_it() {
    assert_eq!(schedule(Planted::NONE), Ok(()));
}

#[cfg(feature = "planted")]
#[test]
fn c1_thin_evidence_is_caught() {
    super::is_caught(schedule, Variant::C1ThinEvidence);
}
