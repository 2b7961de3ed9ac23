use std::path::Path;

use bytes::Bytes;

use super::super::bench::{Bench, commit, held_by, manifest, put, repo, tag};
use super::super::key::Table;
use super::super::rows::Rows as _;
use super::super::{ApplyEntry, State, StateError, View};
use crate::command::{Command, Outcome};
use crate::digest::Digest;
use crate::planted::Planted;

/// Every row of every table.
pub(super) fn rows(view: &View) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for table in Table::ALL {
        view.rows()
            .scan(*table, &[], None, &mut |key, value| {
                all.push((*table, key.to_vec(), value.to_vec()));
                Ok(true)
            })
            .unwrap();
    }
    all
}

fn open(file: &Path) -> State {
    State::open(file, Planted::NONE).unwrap()
}

fn filled() -> Bench {
    let mut bench = Bench::born(Planted::NONE, 3, 3);
    for n in 0..40 {
        let blob = Digest::sha256(format!("blob {n}").as_bytes());
        bench.done(commit("r", blob, held_by(&[1, 2])));
        bench.done(put("r", &manifest(&format!("m {n}"), &[blob], &[]), &["t", &format!("t{n}")]));
    }
    bench
}

#[test]
fn a_crash_falls_back_to_the_last_checkpoint_and_replays_the_rest() {
    let mut bench = filled();
    let durable = bench.state.checkpoint().unwrap();
    assert_eq!(durable, bench.index);
    let entries: Vec<ApplyEntry> = (0..5).map(|_| bench.entry(Command::Tick { elapsed: 7 })).collect();
    bench.state.apply(&entries).unwrap();
    // What a killed process leaves: the file as it is now, not closed.
    let crashed = bench.dir.path().join("crashed.redb");
    std::fs::copy(bench.dir.path().join("state.redb"), &crashed).unwrap();
    let state = open(&crashed);
    assert_eq!(state.view().unwrap().applied().unwrap(), durable);
    assert_eq!(state.view().unwrap().time().unwrap(), 0);
    state.apply(&entries).unwrap();
    assert_eq!(rows(&state.view().unwrap()), rows(&bench.view()));
}

#[test]
fn an_exported_state_opens_as_the_same_state() {
    let bench = filled();
    let view = bench.view();
    let to = bench.dir.path().join("exported.redb");
    let exported = State::export(&view, &to).unwrap();
    let bytes = std::fs::read(&to).unwrap();
    assert_eq!((exported.digest, exported.len), (Digest::sha256(&bytes), bytes.len() as u64));
    let again = open(&to);
    assert_eq!(rows(&again.view().unwrap()), rows(&view));
    assert_eq!(again.view().unwrap().state_hash().unwrap(), view.state_hash().unwrap());
    assert_eq!(again.view().unwrap().log_id().unwrap(), view.log_id().unwrap());
    assert!(matches!(State::export(&view, &to), Err(StateError::Io(_))), "it never overwrites");
}

#[test]
fn a_view_does_not_change() {
    let mut bench = filled();
    let before = bench.view();
    let (index, seen) = (before.applied().unwrap(), rows(&before));
    bench.done(put("r", &manifest("later", &[], &[]), &["t"]));
    assert_eq!(before.applied().unwrap(), index);
    assert_eq!(rows(&before), seen);
    let now = bench.view().tag(&repo("r"), &tag("t")).unwrap().unwrap();
    assert_ne!(before.tag(&repo("r"), &tag("t")).unwrap().unwrap().digest, now.digest);
}

#[test]
fn entries_come_in_the_order_of_the_log() {
    let mut bench = Bench::new(Planted::NONE);
    let blank = |index, membership| ApplyEntry {
        index,
        log_id: Bytes::from(format!("id {index}")),
        envelope: None,
        membership,
    };
    assert_eq!(bench.view().log_id().unwrap(), None);
    // The first entry of a log has index 0.
    let outcomes = bench.state.apply(&[blank(0, Some("who".into())), blank(1, None)]).unwrap();
    assert!(
        outcomes.iter().enumerate().all(|(n, one)| one.index == n as u64 && one.outcome == Outcome::Done)
    );
    let view = bench.view();
    assert_eq!(view.log_id().unwrap().unwrap(), "id 1");
    assert_eq!(view.membership().unwrap().unwrap(), "who");
    for again in [0, 1] {
        assert!(matches!(bench.state.apply(&[blank(again, None)]), Err(StateError::Order { .. })));
    }
    // One bad entry of a batch: none of it is applied.
    assert!(bench.state.apply(&[blank(2, None), blank(2, None)]).is_err());
    assert_eq!(bench.view().applied().unwrap(), 1);
    bench.index = 1;
    bench.run(Command::Tick { elapsed: 3 });
    assert_eq!((bench.view().applied().unwrap(), bench.view().time().unwrap()), (2, 3));
}
