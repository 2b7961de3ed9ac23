//! What readers keep is never older than what they may know.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::super::versions::Versions;
use super::super::{Stamp, State, View, apply};
use super::bench::{Bench, manifest, put, repo, tag};
use crate::command::Command;
use crate::digest::Digest;
use crate::planted::Planted;

/// A stamp on where the tag `t` of the repository points now.
fn stamp(view: &View, name: &str) -> Stamp {
    let digest = view.tag(&repo(name), &tag("t")).unwrap().unwrap().digest;
    view.stamp(&repo(name), Some(&tag("t")), &digest).unwrap()
}

#[test]
fn a_stamp_holds_while_other_rows_change() {
    let mut bench = Bench::born(Planted::NONE, 1, 1);
    let names: Vec<String> = (0..20).map(|n| format!("r{n}")).collect();
    for name in &names {
        bench.done(put(name, &manifest("m", &[], &[]), &["t"]));
    }
    let stamps: Vec<Stamp> = names.iter().map(|name| stamp(&bench.view(), name)).collect();
    bench.done(put("other", &manifest("n", &[], &[]), &["t", "u"]));
    bench.done(Command::Tick { elapsed: 1 });
    bench.done(put("r0", &manifest("m", &[], &[]), &["another-tag"]));
    // What is so already changes nothing.
    bench.done(put("r1", &manifest("m", &[], &[]), &["t"]));
    let holding = stamps.iter().filter(|stamp| stamp.holds()).count();
    assert!(holding >= 17, "hashes are shared by chance, but only {holding} of 20 hold");
}

#[test]
fn each_way_to_change_a_reply_ends_its_stamp() {
    let (old, new) = (manifest("old", &[], &[]), manifest("new", &[], &[]));
    let mut retyped = old.clone();
    retyped.media_type = "application/vnd.oci.image.index.v1+json".into();
    let delete = |digest: Digest| Command::DeleteManifest { repo: repo("r"), digest };
    let changes = [
        vec![put("r", &new, &["t"])],
        vec![put("r", &new, &["t"]), put("r", &old, &["t"])],
        vec![Command::DeleteTag { repo: repo("r"), tag: tag("t"), condition: None }],
        vec![delete(old.digest)],
        vec![delete(old.digest), put("r", &old, &["t"])],
        vec![put("r", &retyped, &[])],
    ];
    for change in changes {
        let mut bench = Bench::born(Planted::NONE, 1, 1);
        bench.done(put("r", &old, &["t"]));
        let before = stamp(&bench.view(), "r");
        assert!(before.holds());
        for command in &change {
            bench.done(command.clone());
            assert!(!before.holds(), "{change:?}");
        }
        if bench.view().tag(&repo("r"), &tag("t")).unwrap().is_some() {
            assert!(stamp(&bench.view(), "r").holds());
        }
    }
}

#[test]
fn a_reader_that_was_overtaken_keeps_nothing() {
    let mut bench = Bench::born(Planted::NONE, 1, 1);
    bench.done(put("r", &manifest("old", &[], &[]), &["t"]));
    let overtaken = bench.view();
    bench.done(put("r", &manifest("new", &[], &[]), &["t"]));
    // It read the old row, and only now puts it away.
    assert!(!stamp(&overtaken, "r").holds());
    assert!(stamp(&bench.view(), "r").holds());
}

#[test]
fn a_stamp_ends_before_the_change_can_be_seen() {
    let mut bench = Bench::born(Planted::NONE, 1, 1);
    let (old, new) = (manifest("old", &[], &[]), manifest("new", &[], &[]));
    bench.done(put("r", &old, &["t"]));
    let before = stamp(&bench.view(), "r");
    let entries: Vec<_> =
        (0..3).map(|n| bench.entry(put("r", if n == 1 { &new } else { &old }, &["t"]))).collect();
    let before_it = bench.state.overlay();
    let (_, changes) = apply::batch(before_it, &entries, &bench.state.versions, Planted::NONE).unwrap();
    let meanwhile = bench.view();
    assert_eq!(meanwhile.tag(&repo("r"), &tag("t")).unwrap().unwrap().digest, old.digest);
    assert!(!before.holds(), "the old row would be given after the new one was seen");
    assert!(!stamp(&meanwhile, "r").holds());
    bench.state.publish(changes);
    assert!(!stamp(&meanwhile, "r").holds());
    assert!(stamp(&bench.view(), "r").holds());
}

#[test]
fn no_stamp_of_a_retired_state_holds() {
    let mut bench = Bench::born(Planted::NONE, 1, 1);
    bench.done(put("r", &manifest("m", &[], &[]), &["t"]));
    let view = bench.view();
    let before = stamp(&view, "r");
    bench.state.retire();
    assert!(!before.holds());
    assert!(!stamp(&view, "r").holds());
}

#[test]
fn nothing_is_kept_of_index_0() {
    let versions = Arc::new(Versions::default());
    let row = (super::super::key::Table::Tag, &b"k"[..]);
    assert!(!Stamp::new(&versions, 0, [row, row]).holds());
    assert!(Stamp::new(&versions, 1, [row, row]).holds());
}

/// Tags that are moved and deleted, and the index of each one's last change that is acknowledged.
struct Race {
    state: State,
    acknowledged: Vec<AtomicU64>,
    kept: Mutex<HashMap<usize, (Stamp, u64)>>,
    done: AtomicBool,
    reads: AtomicU64,
    hits: AtomicU64,
}

impl Race {
    /// Reads as a server does: from what is kept if it holds, else from a view, which is kept.
    fn read(&self, name: usize) {
        let acknowledged = self.acknowledged[name].load(Ordering::Acquire);
        let kept = self.kept.lock().unwrap().get(&name).cloned();
        if let Some((_, revision)) = kept.filter(|(stamp, _)| stamp.holds()) {
            assert!(revision >= acknowledged, "{revision} was given after {acknowledged}");
            self.hits.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let view = self.state.view().unwrap();
        let (repo, tag) = (repo("r"), tag(&format!("t{name}")));
        let Some(row) = view.tag(&repo, &tag).unwrap() else { return };
        assert!(row.revision >= acknowledged);
        // The longer it takes to put away, the more changes come in between.
        if name.is_multiple_of(2) {
            std::thread::yield_now();
        }
        let stamp = view.stamp(&repo, Some(&tag), &row.digest).unwrap();
        self.kept.lock().unwrap().insert(name, (stamp, row.revision));
    }
}

#[test]
fn what_is_kept_is_never_older_than_what_was_acknowledged() {
    const TAGS: usize = 16;
    const BATCHES: u64 = 600;
    let mut bench = Bench::born(Planted::NONE, 1, 1);
    let pair = [manifest("even", &[], &[]), manifest("odd", &[], &[])];
    let batches: Vec<Vec<(usize, _)>> = (0..BATCHES)
        .map(|turn| {
            let entries = 0..1 + turn % 3;
            let make = |step| {
                let name = (turn * 7 + step * 5) as usize % TAGS;
                let text = format!("t{name}");
                let command = match (turn + step) % 5 {
                    0 => Command::DeleteTag { repo: repo("r"), tag: tag(&text), condition: None },
                    _ => put("r", &pair[(turn / TAGS as u64 + step) as usize % 2], &[&text]),
                };
                (name, bench.entry(command))
            };
            entries.map(make).collect()
        })
        .collect();
    let Bench { state, dir: _dir, .. } = bench;
    let race = Race {
        state,
        acknowledged: (0..TAGS).map(|_| AtomicU64::new(0)).collect(),
        kept: Mutex::default(),
        done: AtomicBool::new(false),
        reads: AtomicU64::new(0),
        hits: AtomicU64::new(0),
    };
    let start = Instant::now();
    let in_time = || start.elapsed() < Duration::from_secs(60);
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let race = &race;
            scope.spawn(move || {
                let mut name = reader;
                while !race.done.load(Ordering::Acquire) && in_time() {
                    race.read(name % TAGS);
                    race.reads.fetch_add(1, Ordering::Relaxed);
                    name += 1;
                }
            });
        }
        for (turn, batch) in batches.into_iter().enumerate() {
            // However the threads are scheduled, there are reads between any two changes.
            while race.reads.load(Ordering::Relaxed) < 20 * turn as u64 {
                assert!(in_time(), "the readers stand still");
                std::thread::yield_now();
            }
            let (names, entries): (Vec<usize>, Vec<_>) = batch.into_iter().unzip();
            let outcomes = race.state.apply(&entries).unwrap();
            for (name, applied) in names.into_iter().zip(outcomes) {
                if applied.outcome == crate::command::Outcome::Done {
                    race.acknowledged[name].fetch_max(applied.index, Ordering::AcqRel);
                }
            }
        }
        race.done.store(true, Ordering::Release);
    });
    assert!(race.hits.load(Ordering::Relaxed) > 1000, "next to nothing was kept");
}
