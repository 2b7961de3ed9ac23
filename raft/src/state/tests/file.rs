//! The state as a file: opened again, sent row by row, and refused when it is wrong.

use std::path::Path;

use bytes::Bytes;

use super::super::key::Table;
use super::super::rows::Rows as _;
use super::super::{ApplyEntry, Import, ImportError, State, StateError, View};
use super::bench::{Bench, commit, held_by, manifest, put, repo, tag};
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
fn an_exported_state_is_imported_as_the_same_state() {
    let bench = filled();
    let view = bench.view();
    let (sent, to) = (bench.dir.path().join("sent"), bench.dir.path().join("imported.redb"));
    let exported = State::export(&view, &sent, &mut |_| Ok(())).unwrap();
    let bytes = std::fs::read(&sent).unwrap();
    assert_eq!((exported.digest, exported.len), (Digest::sha256(&bytes), bytes.len() as u64));
    // Rows may be cut anywhere on their way.
    let mut import = Import::create(&to).unwrap();
    for (n, part) in bytes.chunks(7).enumerate() {
        import.push(part).unwrap_or_else(|error| panic!("part {n}: {error}"));
    }
    import.finish().unwrap();
    let again = open(&to);
    assert_eq!(rows(&again.view().unwrap()), rows(&view));
    assert_eq!(again.view().unwrap().state_hash().unwrap(), view.state_hash().unwrap());
    assert_eq!(again.view().unwrap().log_id().unwrap(), view.log_id().unwrap());
    let over = State::export(&view, &sent, &mut |_| Ok(()));
    assert!(matches!(over, Err(StateError::Io(_))), "it never overwrites");
    assert!(matches!(Import::create(&to), Err(StateError::Io(_))), "it never overwrites");
}

#[test]
fn an_export_ends_when_it_is_told_to() {
    let mut bench = filled();
    for n in 0..8 {
        bench.done(put("r", &manifest(&format!("{n}{}", "x".repeat(1 << 20)), &[], &[]), &["big"]));
    }
    let mut heard = Vec::new();
    let ended = State::export(&bench.view(), &bench.dir.path().join("sent"), &mut |written| {
        heard.push(written);
        if written > 3 << 20 { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    });
    assert!(matches!(ended, Err(StateError::Io(error)) if error.kind() == std::io::ErrorKind::TimedOut));
    assert!(heard.len() > 3 && heard.windows(2).all(|two| two[1] - two[0] < 3 << 20), "{heard:?}");
}

/// Bytes that are taken for a state are one that can be read to its end.
fn refused(dir: &Path, bytes: &[u8]) -> Result<(), ImportError> {
    let path = dir.join("incoming.redb");
    let _ = std::fs::remove_file(&path);
    let mut import = Import::create(&path)?;
    import.push(bytes)?;
    import.finish()
}

#[test]
fn rows_that_no_state_has_are_refused() {
    let bench = filled();
    let sent = bench.dir.path().join("sent");
    State::export(&bench.view(), &sent, &mut |_| Ok(())).unwrap();
    let bytes = std::fs::read(&sent).unwrap();
    refused(bench.dir.path(), &bytes).unwrap();
    let forged = |what: &str, bytes: &[u8]| match refused(bench.dir.path(), bytes) {
        Err(ImportError::Forged(_)) => {}
        other => panic!("{what}: {other:?}"),
    };
    forged("cut off in a row", &bytes[..bytes.len() - 1]);
    forged("the same again", &[&bytes[..], &bytes[..]].concat());
    forged("a table that is none", &[&bytes[..], &[99, 0, 0, 0, 0, 0, 0, 0, 0]].concat());
    forged("a key of 4 GiB", &[0, 255, 255, 255, 255, 0, 0, 0, 0]);
    forged("a value of 4 GiB", &[0, 0, 0, 0, 0, 255, 255, 255, 255]);
    forged("a row of no repository", &[7, 0, 0, 0, 1, 0, 0, 0, 0, b'r']);
    // Any one byte changed: it is refused, or (a log id, which consensus looks at) is still a state.
    let (mut taken, step) = (0, (bytes.len() / 600).max(1));
    for at in (0..bytes.len()).step_by(step) {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1 << (at % 8);
        match refused(bench.dir.path(), &wrong) {
            Err(ImportError::Forged(_)) => {}
            Err(ImportError::State(error)) => panic!("byte {at}: {error}"),
            Ok(()) => {
                taken += 1;
                drop(rows(&open(&bench.dir.path().join("incoming.redb")).view().unwrap()));
            }
        }
    }
    assert!(taken < 10, "{taken} of about 600 changes were taken");
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

#[test]
fn a_view_is_read_after_its_state_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let mut bench = Bench::born_in(open(&path), 1, 1);
    let pushed = manifest("m", &[], &[]);
    bench.done(put("r", &pushed, &["t"]));
    let view = bench.view();
    drop(bench);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(view.tag(&repo("r"), &tag("t")).unwrap().unwrap().digest, pushed.digest);
}
