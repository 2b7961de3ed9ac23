//! Random histories: whatever is done, eviction takes nothing that somebody counts on.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use trow_raft::{Command, Digest, Generation, NodeId, Outcome, Reference};

use super::{Node, content, repo};

/// Blobs of a history.
const BLOBS: u64 = 5;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A pull brings it.
    Keep(u64),
    /// Somebody asks this node for its word, or sends the blob.
    Confirm(u64),
    Hold(u64),
    /// Whoever has the last word that was given for it commits it.
    Commit(u64),
    /// An image of this blob is recorded and pinned, or not pinned any more.
    Pin(u64),
    Unpin(u64),
    Touch(u64),
    Fence,
    Restart,
    Evict,
    Orphans,
}

fn step() -> impl Strategy<Value = Step> {
    let blob = || 0..BLOBS;
    prop_oneof![
        4 => blob().prop_map(Step::Keep),
        2 => blob().prop_map(Step::Confirm),
        1 => blob().prop_map(Step::Hold),
        2 => blob().prop_map(Step::Commit),
        1 => blob().prop_map(Step::Pin),
        1 => blob().prop_map(Step::Unpin),
        1 => blob().prop_map(Step::Touch),
        1 => Just(Step::Fence),
        1 => Just(Step::Restart),
        4 => Just(Step::Evict),
        1 => Just(Step::Orphans),
    ]
}

#[derive(Default)]
struct Model {
    /// The last word that was given for each.
    words: BTreeMap<u64, Generation>,
    pinned: BTreeSet<u64>,
    evicted: u64,
}

fn digest(number: u64) -> Digest {
    Digest::sha256(&content(number))
}

impl Model {
    /// Whether somebody counts on the blob at this moment.
    fn counts(&self, node: &Node, number: u64) -> bool {
        let view = node.sim.view(1);
        let durable = view.blob(&digest(number)).unwrap().is_some();
        let agreed = view.member(NodeId(1)).unwrap().unwrap().generation;
        durable || self.words.get(&number) == Some(&agreed) || self.pinned.contains(&number)
    }

    async fn run(&mut self, mut node: Node, steps: &[Step]) -> Result<(), TestCaseError> {
        for step in steps {
            let before: Vec<u64> = (0..BLOBS).filter(|n| node.store().has(&digest(*n)).is_some()).collect();
            node = self.take(node, *step).await?;
            for number in 0..BLOBS {
                let here = node.store().has(&digest(number)).is_some();
                if before.contains(&number) && !here {
                    self.evicted += 1;
                    let counts = self.counts(&node, number);
                    prop_assert!(!counts, "{number} went at {step:?} although somebody counts on it");
                }
            }
        }
        Ok(())
    }

    async fn take(&mut self, node: Node, step: Step) -> Result<Node, TestCaseError> {
        let tag = |number: u64| format!("t{number}");
        match step {
            Step::Keep(number) => drop(node.keep(number).await),
            Step::Confirm(number) => {
                if let Some(held) = node.store().confirm(&digest(number)).await.unwrap() {
                    self.words.insert(number, held.generation);
                }
            }
            Step::Hold(number) => {
                let held = node.sim.hold(1, &content(number)).await;
                self.words.insert(number, held.generation);
            }
            Step::Commit(number) => {
                if let Some(word) = self.words.get(&number) {
                    let done = node.sim.commit_blob(&content(number), &[(1, *word)]) == Some(Outcome::Done);
                    let here = node.store().has(&digest(number)).is_some();
                    prop_assert!(!done || here, "{number} was committed, and is gone");
                }
            }
            Step::Pin(number) => {
                node.record(&tag(number), &[digest(number)], &[]);
                node.pin(Reference::Tag(tag(number).parse().unwrap()));
                self.pinned.insert(number);
            }
            Step::Unpin(number) => {
                let remove = vec![(repo(), Reference::Tag(tag(number).parse().unwrap()))];
                node.sim.commit(Command::SetPins { add: Vec::new(), remove });
                self.pinned.remove(&number);
            }
            Step::Touch(number) => node.store().touch(&digest(number)),
            Step::Fence => drop(node.evictor.inner.sweeper.fence().await.unwrap()),
            Step::Restart => return Ok(node.again()),
            Step::Evict => drop(node.evictor.evict(u64::MAX).await.unwrap()),
            Step::Orphans => drop(node.evictor.orphans(std::time::Duration::ZERO).await.unwrap()),
        }
        Ok(node)
    }
}

#[test]
fn eviction_takes_nothing_that_somebody_counts_on() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let evicted = std::cell::Cell::new(0);
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let histories = proptest::collection::vec(step(), 5..40);
    let run = runner.run(&histories, |steps| {
        let mut model = Model::default();
        let done = runtime.block_on(async { model.run(Node::new(), &steps).await });
        evicted.set(evicted.get() + model.evicted);
        done
    });
    run.unwrap();
    assert!(evicted.get() > 24, "only {} were evicted: the histories say nothing", evicted.get());
}
