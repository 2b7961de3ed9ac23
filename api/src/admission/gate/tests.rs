//! What holds around a pause, by a clock that the tests set.

use std::collections::BTreeSet;

use bytes::Bytes;
use trow_raft::{Command, Generation, Member, MemberState, NodeId, Outcome, Settings};

use super::super::pause::{PAUSE, tests::Planted};
use super::*;

const BOUND: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const OLD: &str = "version: 1\ndefault: allow\n";
const NEW: &str = "version: 1\ndefault: deny\n";

/// A time that no test comes to.
fn later() -> Instant {
    Instant::now() + HOUR
}

/// One node's agreed state, and its gate.
struct World {
    dir: tempfile::TempDir,
    clock: Planted,
    gate: Gate,
}

impl World {
    async fn born() -> World {
        let (dir, me, clock) = (tempfile::tempdir().unwrap(), NodeId(1), Planted::default());
        let metadata = Metadata::open(Settings::alone(me, dir.path())).await.unwrap();
        metadata.initialize(BTreeSet::from([me])).await.unwrap();
        let member = Member {
            id: me,
            name: "n1".into(),
            zone: String::new(),
            state: MemberState::Active,
            generation: Generation(1),
            max_level: trow_raft::command::LEVEL,
            weight: 1,
            client: String::new(),
            peer: String::new(),
        };
        tokio::time::timeout(BOUND, metadata.birth(1, vec![member])).await.unwrap();
        let gate = Gate { patience: BOUND, ..Gate::by(clock.watch(), metadata, HOUR) };
        let world = World { dir, clock, gate };
        world.set(OLD).await;
        world
    }

    async fn set(&self, policy: &'static str) {
        let document = Bytes::from_static(policy.as_bytes());
        let command = Command::SetPolicy { base: None, document };
        assert_eq!(self.gate.metadata.propose("test", command).await.unwrap().outcome, Outcome::Done);
    }

    /// What holds, once a quorum says so: on a busy machine it may take longer than a review waits.
    async fn confirmed(&self) -> Look {
        let look = async {
            loop {
                if let Ok(look) = self.gate.look(later()).await
                    && look.standing.stale.is_none()
                {
                    return look;
                }
            }
        };
        tokio::time::timeout(BOUND, look).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_seen_before_a_pause_or_another_policy_is_not_decided_by() {
    let world = World::born().await;
    let look = world.confirmed().await;
    world.clock.pass(PAUSE - Duration::from_millis(1));
    assert!(world.gate.still_holds(&look).unwrap(), "a busy machine is no pause");
    world.clock.pass(PAUSE);
    assert!(!world.gate.still_holds(&look).unwrap(), "somebody may have set a policy meanwhile");
    let again = world.confirmed().await;
    assert!(world.gate.still_holds(&again).unwrap(), "it was asked for after the pause");
    assert_eq!(again.standing.revision, look.standing.revision);
    world.set(NEW).await;
    assert!(!world.gate.still_holds(&again).unwrap(), "another policy is here");
    let last = world.confirmed().await;
    assert!(last.standing.revision > again.standing.revision && world.gate.still_holds(&last).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_old_a_policy_may_be_is_measured_from_the_question_and_again_after_the_decision() {
    let mut world = World::born().await;
    world.confirmed().await;
    world.gate.metadata.shutdown().await;
    for _ in 0..(HOUR.as_millis() / PAUSE.as_millis()) {
        world.clock.pass(PAUSE - Duration::from_millis(1));
        world.gate.watch.now();
    }
    let look = world.gate.look(later()).await.unwrap();
    let age = look.standing.stale.expect("nobody confirmed it");
    assert!(age > HOUR - Duration::from_secs(30) && age < HOUR, "{age:?}");
    assert!(world.gate.still_holds(&look).unwrap());
    while world.gate.staleness().is_ok() {
        world.clock.pass(PAUSE / 2);
        world.gate.watch.now();
    }
    let Err(Closed::Because(why)) = world.gate.still_holds(&look) else { panic!("it is too old by now") };
    assert!(why.contains("3600 s, longer than webhook.max_staleness"), "{why}");

    // As in a sleep of the machine: the age is that of the truth, however short it seemed.
    *world.gate.confirmed.get_mut().unwrap() = Some(world.gate.watch.now());
    world.gate.patience = Duration::ZERO;
    assert!(world.gate.look(later()).await.is_ok());
    world.clock.pass(HOUR);
    assert!(matches!(world.gate.look(later()).await, Err(Closed::Because(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_pause_it_is_waited_for_a_quorum_and_without_one_only_for_a_while() {
    let World { dir, clock, gate } = World::born().await;
    gate.metadata.shutdown().await;
    let Gate { metadata, .. } = gate;
    drop(metadata);
    // A node that was a member is one again, after an election that takes longer than a review waits.
    let metadata = Metadata::open(Settings::alone(NodeId(1), dir.path())).await.unwrap();
    let mut gate = Gate { patience: BOUND, ..Gate::by(clock.watch(), metadata, HOUR) };
    *gate.confirmed.get_mut().unwrap() = Some(gate.watch.now());
    clock.pass(2 * PAUSE);
    assert_eq!(gate.wait(later()), BOUND);
    let look = gate.look(later()).await.unwrap();
    assert_eq!(look.standing.stale, None, "it decides by what it had before the pause");

    gate.patience = RETURN;
    assert_eq!(gate.wait(later()), RETURN);
    assert_eq!(gate.wait(Instant::now()), CONFIRM, "nobody waits that long");
    let step = Duration::from_millis(100);
    for passed in 1..RETURN.as_millis() / step.as_millis() {
        clock.pass(step);
        assert_eq!(gate.wait(later()), (RETURN - step * passed as u32).max(CONFIRM));
    }
    clock.pass(step);
    assert_eq!(gate.wait(later()), CONFIRM);
}
