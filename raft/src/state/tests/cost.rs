//! What a read or a change costs, counted in reads of the file, when there is little and when there is much.
//!
//! redb keeps nothing of the file in memory here, or little, so that each page that is looked at is counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::super::{State, View, file};
use super::bench::{Bench, manifest, put, repo, tag};
use crate::command::Command;
use crate::name::Tag;
use crate::planted::Planted;

/// Memory that counts how often it is read.
#[derive(Debug)]
struct Counting {
    inner: InMemoryBackend,
    reads: Arc<AtomicU64>,
}

impl StorageBackend for Counting {
    fn len(&self) -> Result<u64, io::Error> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.inner.write(offset, data)
    }
}

/// A repository `r` with this many tags of one manifest, and what counts the reads of its pages.
fn repository(tags: usize) -> (Bench, Arc<AtomicU64>) {
    let reads = Arc::new(AtomicU64::new(0));
    let backend = Counting { inner: InMemoryBackend::new(), reads: reads.clone() };
    let state = State::on(file::on(backend, 0).unwrap(), Planted::NONE).unwrap();
    let mut bench = Bench::born_in(state, 1, 1);
    let names: Vec<String> = (0..tags).map(name).collect();
    for some in names.chunks(1000) {
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        bench.done(put("r", &manifest("m", &[], &[]), &some));
    }
    // What is in memory costs no page.
    bench.state.checkpoint().unwrap();
    (bench, reads)
}

fn name(number: usize) -> String {
    format!("t{number:06}")
}

/// Reads that `work` takes on a view that has seen nothing yet.
fn reads(bench: &Bench, counter: &AtomicU64, work: impl FnOnce(&View)) -> u64 {
    let view = bench.view();
    let before = counter.load(Ordering::Relaxed);
    work(&view);
    counter.load(Ordering::Relaxed) - before
}

/// What the handler of a list of tags asks of the state.
fn page(after: usize) -> impl FnOnce(&View) {
    move |view| {
        assert!(view.repo_exists(&repo("r")).unwrap());
        let found = view.tags(&repo("r"), Some(&name(after)), 101).unwrap();
        let expected: Vec<Tag> = (after + 1..=after + 101).map(|number| tag(&name(number))).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_page_of_tags_costs_what_the_page_costs_in_a_repository_of_100_000() {
    let (few, few_reads) = repository(1_000);
    let (many, many_reads) = repository(100_000);
    let of_few = reads(&few, &few_reads, page(500));
    for after in [0, 50_000, 99_800] {
        let of_many = reads(&many, &many_reads, page(after));
        // The trees are deeper by a level or two, and a page may begin in mid-leaf.
        assert!(of_many <= of_few + 8, "{of_many} reads after {after}, {of_few} among few");
    }
    // The counter counts: all tags cost a hundred times a hundredth of them.
    let all = |count: usize| {
        move |view: &View| assert_eq!(view.tags(&repo("r"), None, count).unwrap().len(), count)
    };
    let (of_few, of_many) = (reads(&few, &few_reads, all(1_000)), reads(&many, &many_reads, all(100_000)));
    assert!(of_many > 50 * of_few, "{of_many} reads of all, {of_few} of few");
}

#[test]
fn one_tag_costs_a_way_down_the_tree_however_many_there_are() {
    let (few, few_reads) = repository(1_000);
    let (many, many_reads) = repository(20_000);
    let one = |number: usize| {
        move |view: &View| assert!(view.tag(&repo("r"), &tag(&name(number))).unwrap().is_some())
    };
    let (of_few, of_many) = (reads(&few, &few_reads, one(500)), reads(&many, &many_reads, one(15_000)));
    assert!(of_many <= of_few + 3, "{of_many} reads among many, {of_few} among few");
}

/// The new manifest of this number, under a tag of its own.
fn new_manifest(number: usize) -> Command {
    put("r", &manifest(&format!("m{number}"), &[], &[]), &[&name(number)])
}

#[test]
fn what_was_looked_for_ahead_is_not_read_from_the_file_by_apply() {
    let counter = Arc::new(AtomicU64::new(0));
    let backend = Counting { inner: InMemoryBackend::new(), reads: counter.clone() };
    // Room for some pages, and not for all.
    let state = State::on(file::on(backend, 512 << 10).unwrap(), Planted::NONE).unwrap();
    let mut bench = Bench::born_in(state, 1, 1);
    let before: Vec<_> = (0..4_000).map(|number| bench.entry(new_manifest(number))).collect();
    bench.state.apply(&before).unwrap();
    bench.state.checkpoint().unwrap();
    let mut cost = |numbers: std::ops::Range<usize>, ahead: bool| {
        let mut reads = 0;
        for number in numbers {
            // Others are asked for meanwhile, so that nothing is in memory by chance.
            bench.state.view().unwrap().tags(&repo("r"), None, 4_000).unwrap();
            for other in 0..400 {
                let digest = manifest(&format!("m{}", other * 10), &[], &[]).digest;
                bench.state.view().unwrap().body(&digest).unwrap().unwrap();
            }
            let command = new_manifest(number);
            if ahead {
                bench.state.view().unwrap().look_ahead(&command).unwrap();
            }
            let before = counter.load(Ordering::Relaxed);
            bench.done(command);
            reads += counter.load(Ordering::Relaxed) - before;
        }
        reads
    };
    let (without, with) = (cost(10_000..10_020, false), cost(10_020..10_040, true));
    assert!(with + 10 <= without, "{with} reads for 20 manifests that were looked for, {without} for others");
}
