//! H1: any W healthy members may hold a new blob; it goes home later.

use super::super::bench::{Bench, commit, held_by, node};
use super::Disks;
use crate::command::{Command, Outcome};
use crate::digest::Digest;
use crate::planted::Planted;
#[cfg(feature = "planted")]
use crate::planted::Variant;

/// Two of five nodes are down, and they own the partition of what is pushed now.
fn schedule(planted: Planted) -> Result<(), String> {
    let mut bench = Bench::born(planted, 5, 3);
    let mut disks = Disks::default();
    let x = Digest::sha256(b"x");
    bench.own(&x, &[1, 2, 3]);
    disks.store(&[1, 4], x);
    if bench.run(commit("r", x, held_by(&[1, 4]))) != Outcome::Done {
        return Err("with two of five nodes down a push fails".into());
    }
    if bench.view().blob(&x).unwrap().map(|row| row.away) != Some(vec![node(4)]) {
        return Err("the copy outside the owners is not recorded".into());
    }
    // The owner dies before the others are back: the away copy is the one that is left.
    disks.lose(1);
    if disks.kept_copies(&bench.view(), &x) == 0 {
        return Err("one more loss takes the last protected copy".into());
    }
    // One owner is too few to let the away holder go, two are enough.
    disks.store(&[2], x);
    bench.done(Command::SettleBlobs { blobs: vec![(x, held_by(&[2]))] });
    if bench.view().away_count().unwrap() != 1 {
        return Err("away copies were given up for fewer than W owners".into());
    }
    disks.store(&[3], x);
    bench.done(Command::SettleBlobs { blobs: vec![(x, held_by(&[2, 3]))] });
    let view = bench.view();
    if view.away_count().unwrap() != 0 || disks.kept_copies(&view, &x) < 2 {
        return Err("the blob did not come home".into());
    }
    Ok(())
}

#[test]
fn h1_any_w_members_may_hold_a_new_blob() {
    assert_eq!(schedule(Planted::NONE), Ok(()));
}

#[cfg(feature = "planted")]
#[test]
fn h1_owners_only_is_caught() {
    super::is_caught(schedule, Variant::H1OwnersOnly);
}
