//! H10: a retry never brings back what a later command replaced.

use super::super::bench::{Bench, manifest, node, put, repo, tag};
use crate::command::{Applied, Command, Outcome, Refusal};
use crate::limits::OUTCOMES;
use crate::planted::Planted;
#[cfg(feature = "planted")]
use crate::planted::Variant;

/// Tag → first applies and its reply is lost; tag → second is acknowledged; the first is retried,
/// soon, after its outcome was forgotten, and after a restart of its proposer.
fn schedule(planted: Planted) -> Result<(), String> {
    let mut bench = Bench::born(planted, 3, 3);
    let (first, second) = (manifest("1", &[], &[]), manifest("2", &[], &[]));
    let (one, two) = (node(1), node(2));
    let points_to = |bench: &Bench| bench.view().tag(&repo("r"), &tag("t")).unwrap().map(|row| row.digest);

    let original = bench.run_as(two, 5, 100, put("r", &first, &["t"]));
    bench.run_as(one, 9, 1, put("r", &second, &["t"]));
    let retried = bench.run_as(two, 5, 100, put("r", &first, &["t"]));
    if points_to(&bench) != Some(second.digest) {
        return Err("a retry moved the tag back".into());
    }
    if retried != original {
        return Err(format!("the retry is told {retried:?}, the first was {original:?}"));
    }

    // The window's lowest number is still known; one more and it is shut.
    let tick = || Command::Tick { elapsed: 1 };
    bench.run_as(two, 5, 100 + OUTCOMES - 1, tick());
    if bench.run_as(two, 5, 100, put("r", &first, &["t"])) != original {
        return Err("an outcome inside the window was forgotten".into());
    }
    bench.run_as(two, 5, 100 + OUTCOMES, tick());
    let stale = |applied: &Applied| applied.outcome == Outcome::Refused(Refusal::StaleSequence);
    if !stale(&bench.run_as(two, 5, 100, put("r", &first, &["t"]))) {
        return Err("a number below the window is not refused".into());
    }
    // Out of order inside the window is what retries are.
    if bench.run_as(two, 5, 101 + OUTCOMES / 2, tick()).outcome != Outcome::Done {
        return Err("a number inside the window is refused".into());
    }

    // The proposer starts anew: what its old process had under way must not apply.
    bench.run_as(two, 6, 1, tick());
    if !stale(&bench.run_as(two, 5, 103 + OUTCOMES, put("r", &first, &["t"]))) {
        return Err("a command of an earlier start is not refused".into());
    }
    if points_to(&bench) != Some(second.digest) {
        return Err("a late command moved the tag back".into());
    }
    Ok(())
}

#[test]
fn h10_a_retry_is_applied_once() {
    assert_eq!(schedule(Planted::NONE), Ok(()));
}

#[cfg(feature = "planted")]
#[test]
fn h10_no_outcome_table_is_caught() {
    super::is_caught(schedule, Variant::H10NoOutcomeTable);
}
