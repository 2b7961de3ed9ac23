//! C3: changes of placement stack, and sources stay until every owner is complete.

use super::super::bench::{Bench, commit, held_by, node};
use super::Disks;
use crate::digest::Digest;
use crate::planted::Planted;
#[cfg(feature = "planted")]
use crate::planted::Variant;

fn schedule(planted: Planted) -> Result<(), String> {
    changes_stack(planted)?;
    absent_owner(planted)
}

fn enough(bench: &Bench, disks: &Disks, x: &Digest) -> Result<(), String> {
    match disks.kept_copies(&bench.view(), x) {
        0 | 1 => Err("fewer than W copies are protected from the sweepers".into()),
        _ => Ok(()),
    }
}

/// 1 dies, 4 replaces it and dies before it is complete, 5 replaces that. Then all owners change
/// at once and become ready one by one.
fn changes_stack(planted: Planted) -> Result<(), String> {
    let mut bench = Bench::born(planted, 8, 3);
    let mut disks = Disks::default();
    let x = Digest::sha256(b"x");
    bench.own(&x, &[1, 2, 3]);
    disks.store(&[1, 2, 3], x);
    bench.done(commit("r", x, held_by(&[1, 2, 3])));
    bench.own(&x, &[2, 3, 4]);
    let added_at = bench.own(&x, &[2, 3, 5]);
    disks.store(&[5], x);
    for number in [2, 3, 5] {
        bench.ready(number, x.partition(), added_at);
        enough(&bench, &disks, &x)?;
    }
    let partition = bench.view().partition(x.partition()).unwrap();
    if !partition.is_ready() || !partition.sources.is_empty() {
        return Err(format!("two dead replacements hold the partition up: {partition:?}"));
    }
    let added_at = bench.own(&x, &[6, 7, 8]);
    for number in [6, 7, 8] {
        disks.store(&[number], x);
        bench.ready(number, x.partition(), added_at);
        enough(&bench, &disks, &x)?;
    }
    Ok(())
}

/// 3 is ready, then away while a blob is committed on 1 and 2. The partition moves; whoever has
/// nothing to fetch says nothing new.
fn absent_owner(planted: Planted) -> Result<(), String> {
    let mut bench = Bench::born(planted, 5, 3);
    let mut disks = Disks::default();
    let x = Digest::sha256(b"x");
    let first = bench.own(&x, &[1, 2, 3]);
    for number in [1, 2, 3] {
        bench.ready(number, x.partition(), first);
    }
    disks.store(&[1, 2], x);
    bench.done(commit("r", x, held_by(&[1, 2])));
    let added_at = bench.own(&x, &[3, 4, 5]);
    // A word about the first change says nothing about this one.
    bench.ready(3, x.partition(), first);
    for number in [4, 5] {
        disks.store(&[number], x);
        bench.ready(number, x.partition(), added_at);
        let partition = bench.view().partition(x.partition()).unwrap();
        let lacking = partition.owners.iter().find(|owner| !disks.has(owner.node, &x));
        if let Some(owner) = lacking.filter(|_| partition.sources.is_empty()) {
            return Err(format!("the sources are gone and owner {} lacks the blob", owner.node));
        }
    }
    disks.store(&[3], x);
    bench.ready(3, x.partition(), added_at);
    let partition = bench.view().partition(x.partition()).unwrap();
    if !partition.sources.is_empty() || !partition.owned_by(node(3)) {
        return Err(format!("complete and not settled: {partition:?}"));
    }
    Ok(())
}

#[test]
fn c3_sources_stay_until_every_owner_is_complete() {
    assert_eq!(schedule(Planted::NONE), Ok(()));
}

#[cfg(feature = "planted")]
#[test]
fn c3_dropping_sources_early_is_caught() {
    super::is_caught(schedule, Variant::C3DropSourcesEarly);
}

#[cfg(feature = "planted")]
#[test]
fn c3_keeping_ready_is_caught() {
    super::is_caught(schedule, Variant::C3KeepReady);
}
