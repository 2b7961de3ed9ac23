//! The rule row by row, and against an upstream whose tag moves, goes and comes back.

use proptest::prelude::*;

use super::*;

fn digest(of: &str) -> Digest {
    Digest::sha256(of.as_bytes())
}

const FRESHNESS: Duration = Duration::from_secs(100);

fn policy() -> Policy {
    Policy { offline: false, freshness: FRESHNESS, follow_deletes: false }
}

fn is(of: &str) -> Said {
    Said::Is { digest: digest(of), media_type: "m".into(), size: 1 }
}

fn row(of: &str, revision: u64) -> Option<Row> {
    Some(Row { digest: digest(of), revision })
}

/// A word of `age` seconds before `now`, with a lot of 90 percent.
fn word(said: Said, age: u64, revision: u64, now: Instant) -> Memory {
    let at = now - Duration::from_secs(age);
    Memory { word: Some(Word { said, at, revision, lot: 90 }), failure: None }
}

fn failing_for(seconds: u64, memory: Memory, now: Instant) -> Memory {
    let until = now + Duration::from_secs(seconds);
    Memory {
        failure: Some(Failure { kind: Kind::Unavailable, why: "upstream x: 500".into(), until }),
        ..memory
    }
}

#[test]
fn who_comes_while_an_upstream_is_left_alone_is_told_in_what_way_it_failed() {
    let now = Instant::now() + Duration::from_secs(1000);
    for kind in [Kind::Unavailable, Kind::Denied, Kind::Bad] {
        let failure = Failure { kind, why: "upstream x: no".into(), until: now + Duration::from_secs(3) };
        let memory = Memory { word: None, failure: Some(failure) };
        let down = Verdict::Down { kind, why: "upstream x: no".into(), retry: Duration::from_secs(3) };
        assert_eq!(decide(None, &memory, &policy(), now), down);
    }
}

/// What a row of the table expects, in short.
fn short(verdict: &Verdict) -> String {
    let name = |found: &Digest| {
        let all = ["old", "new"];
        all.into_iter().find(|name| digest(name) == *found).expect("one of them").to_owned()
    };
    match verdict {
        Verdict::Answer { digest, stale, refresh } => {
            let stale = match stale {
                None => "",
                Some(Stale::Offline) => " offline",
                Some(Stale::Deleted) => " deleted",
                Some(Stale::Failed(_)) => " failed",
            };
            format!("answer {}{stale}{}", name(digest), if *refresh { " and refresh" } else { "" })
        }
        Verdict::Ask { instead: Some(digest) } => format!("ask, else {}", name(digest)),
        Verdict::Ask { instead: None } => "ask".into(),
        Verdict::Missing => "missing".into(),
        Verdict::Offline => "not cached".into(),
        Verdict::Down { retry, .. } => format!("down {}", retry.as_secs()),
    }
}

#[test]
fn the_rule_row_by_row() {
    let now = Instant::now() + Duration::from_secs(10_000);
    let none = Memory::default();
    let fails = |memory: Memory| failing_for(7, memory, now);
    let failed_before = |memory: Memory| failing_for(0, memory, now);
    let offline = Policy { offline: true, ..policy() };
    let follow = Policy { follow_deletes: true, ..policy() };
    let said = |said: Said, age, revision| word(said, age, revision, now);
    let table: Vec<(&str, Option<Row>, Memory, Policy, &str)> = vec![
        ("nothing known", None, none.clone(), policy(), "ask"),
        ("after a restart", row("old", 5), none.clone(), policy(), "ask, else old"),
        ("fresh, not recorded yet", None, said(is("old"), 10, 0), policy(), "answer old"),
        ("fresh and recorded", row("old", 5), said(is("old"), 10, 5), policy(), "answer old"),
        ("just fresh", row("old", 5), said(is("old"), 89, 5), policy(), "answer old"),
        ("past its lot", row("old", 5), said(is("old"), 90, 5), policy(), "answer old and refresh"),
        ("nearly twice", row("old", 5), said(is("old"), 199, 5), policy(), "answer old and refresh"),
        ("twice the freshness", row("old", 5), said(is("old"), 200, 5), policy(), "ask, else old"),
        ("old and unrecorded", None, said(is("old"), 200, 0), policy(), "ask, else old"),
        ("newer than the state", row("old", 5), said(is("new"), 10, 5), policy(), "answer new"),
        ("recorded under a later revision", row("new", 9), said(is("new"), 10, 5), policy(), "answer new"),
        ("somebody moved it since", row("new", 9), said(is("old"), 10, 5), policy(), "ask, else new"),
        ("somebody put it since", row("new", 9), said(is("old"), 10, 0), policy(), "ask, else new"),
        ("purged since", None, said(is("old"), 10, 5), policy(), "ask"),
        ("failed while fresh", row("old", 5), fails(said(is("old"), 10, 5)), policy(), "answer old"),
        ("failed later", row("old", 5), fails(said(is("old"), 95, 5)), policy(), "answer old failed"),
        ("failed, very old", row("old", 5), fails(said(is("old"), 5000, 5)), policy(), "answer old failed"),
        ("failed, no word", row("old", 5), fails(none.clone()), policy(), "answer old failed"),
        ("failed, nothing cached", None, fails(none.clone()), policy(), "down 7"),
        ("failed long ago", row("old", 5), failed_before(none.clone()), policy(), "ask, else old"),
        ("failed long ago, nothing", None, failed_before(none.clone()), policy(), "ask"),
        ("not there", None, said(Said::Gone, 4, 0), policy(), "missing"),
        ("not there some time ago", None, said(Said::Gone, 5, 0), policy(), "ask"),
        ("not there, then failing", None, fails(said(Said::Gone, 5, 0)), policy(), "down 7"),
        ("deleted", row("old", 5), said(Said::Gone, 10, 5), policy(), "answer old deleted"),
        (
            "deleted before",
            row("old", 5),
            said(Said::Gone, 95, 5),
            policy(),
            "answer old deleted and refresh",
        ),
        ("deleted, failing", row("old", 5), fails(said(Said::Gone, 95, 5)), policy(), "answer old deleted"),
        ("deleted and here again", row("new", 9), said(Said::Gone, 1, 5), policy(), "ask, else new"),
        ("deletes followed", row("old", 5), said(Said::Gone, 4, 5), follow, "missing"),
        ("deletes followed, later", row("old", 5), said(Said::Gone, 10, 5), follow, "ask"),
        ("deletes followed, back", row("new", 9), said(Said::Gone, 4, 5), follow, "ask, else new"),
        ("offline, nothing", None, none.clone(), offline, "not cached"),
        ("offline, cached", row("old", 5), none.clone(), offline, "answer old offline"),
        ("offline, unrecorded", None, said(is("old"), 5000, 0), offline, "answer old offline"),
        ("offline, was deleted", row("old", 5), said(Said::Gone, 1, 5), offline, "answer old offline"),
        ("offline, failing", None, fails(none.clone()), offline, "not cached"),
    ];
    for (what, row, memory, policy, expected) in table {
        assert_eq!(short(&decide(row, &memory, &policy, now)), expected, "{what}");
    }
}

#[test]
fn a_freshness_of_nothing_asks_every_time() {
    let now = Instant::now();
    let policy = Policy { freshness: Duration::ZERO, ..policy() };
    let verdict = decide(row("old", 5), &word(is("old"), 0, 5, now), &policy, now);
    assert_eq!(short(&verdict), "ask, else old");
}

/// What happens to an upstream's tag and to the cache in front of it.
#[derive(Clone, Debug)]
enum Step {
    Passes(u64),
    Moves,
    Deletes,
    Fails,
    Recovers,
    /// Another node asked, and recorded what it heard.
    Elsewhere,
    Purged,
    Restarts,
    Asked,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        4 => (1u64..130).prop_map(Step::Passes),
        2 => Just(Step::Moves),
        1 => Just(Step::Deletes),
        1 => Just(Step::Fails),
        2 => Just(Step::Recovers),
        1 => Just(Step::Elsewhere),
        1 => Just(Step::Purged),
        1 => Just(Step::Restarts),
        8 => Just(Step::Asked),
    ];
    proptest::collection::vec(one, 1..60)
}

/// The upstream, and a cache that does what the verdicts say.
struct World {
    now: Instant,
    /// Where the tag pointed, and from when on.
    history: Vec<(Instant, Option<Digest>)>,
    up: bool,
    index: u64,
    row: Option<Row>,
    memory: Memory,
    policy: Policy,
    asked: Vec<Instant>,
}

impl World {
    fn tag(&self) -> Option<Digest> {
        self.history.last().expect("it began somewhere").1
    }

    /// What the tag was at some moment of the last `window`.
    fn was(&self, digest: Digest, window: Duration) -> bool {
        let ends = self.history.iter().skip(1).map(|(at, _)| *at).chain([self.now]);
        let mut spans = self.history.iter().zip(ends);
        spans.any(|((_, was), end)| *was == Some(digest) && end + window >= self.now)
    }

    fn record(&mut self, digest: Digest) -> u64 {
        self.index += 1;
        self.row = Some(Row { digest, revision: self.index });
        self.index
    }

    fn ask(&mut self, lot: u8) {
        self.asked.push(self.now);
        if !self.up {
            let until = self.now + Duration::from_secs(3);
            self.memory.failure = Some(Failure { kind: Kind::Unavailable, why: "down".into(), until });
            return;
        }
        let mut revision = self.row.map_or(0, |row| row.revision);
        let said = match self.tag() {
            Some(digest) => {
                if self.row.is_none_or(|row| row.digest != digest) {
                    revision = self.record(digest);
                }
                Said::Is { digest, media_type: String::new(), size: 0 }
            }
            None => {
                if self.policy.follow_deletes {
                    self.row = None;
                }
                Said::Gone
            }
        };
        self.memory = Memory { word: Some(Word { said, at: self.now, revision, lot }), failure: None };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_not_marked_was_true_within_twice_the_freshness(
        steps in steps(),
        follow_deletes: bool,
        offline: bool,
        lot in 80u8..=100,
    ) {
        let now = Instant::now();
        let policy = Policy { offline, follow_deletes, ..policy() };
        let first = Some(digest("0"));
        let row = offline.then(|| Row { digest: digest("0"), revision: 1 });
        let mut world = World {
            now, history: vec![(now, first)], up: true, index: 1, row,
            memory: Memory::default(), policy, asked: vec![],
        };
        for (count, step) in steps.into_iter().enumerate() {
            match step {
                Step::Passes(seconds) => world.now += Duration::from_secs(seconds),
                Step::Moves => world.history.push((world.now, Some(digest(&format!("{}", count + 1))))),
                Step::Deletes => world.history.push((world.now, None)),
                Step::Fails => world.up = false,
                Step::Recovers => world.up = true,
                Step::Elsewhere => {
                    if let (false, Some(now)) = (offline, world.tag()) {
                        world.record(now);
                    }
                }
                Step::Purged => world.row = None,
                Step::Restarts => world.memory = Memory::default(),
                Step::Asked => {
                    let verdict = decide(world.row, &world.memory, &world.policy, world.now);
                    let failing = world.memory.failure.as_ref().is_some_and(|failure| world.now < failure.until);
                    let asks = matches!(verdict, Verdict::Ask { .. } | Verdict::Answer { refresh: true, .. });
                    prop_assert!(!(failing && asks), "who failed just now is asked again");
                    match verdict {
                        Verdict::Answer { digest, stale: None, refresh } => {
                            prop_assert!(!offline, "an answer that nobody confirmed is not marked");
                            prop_assert!(world.was(digest, FRESHNESS * 2), "an old answer is not marked");
                            if refresh { world.ask(lot); }
                        }
                        Verdict::Answer { stale: Some(stale), refresh, .. } => {
                            prop_assert!(!(refresh && offline));
                            prop_assert_eq!(stale == Stale::Offline, offline);
                            prop_assert!(stale != Stale::Deleted || !follow_deletes);
                            if refresh { world.ask(lot); }
                        }
                        Verdict::Ask { instead } => {
                            prop_assert!(!offline, "somebody is asked");
                            prop_assert!(world.row.is_none() || instead.is_some() || follow_deletes);
                            world.ask(lot);
                        }
                        Verdict::Missing => {
                            prop_assert!(!offline && (world.row.is_none() || follow_deletes));
                        }
                        Verdict::Offline => prop_assert!(offline && world.row.is_none()),
                        Verdict::Down { .. } => prop_assert!(!offline && world.memory.failure.is_some()),
                    }
                }
            }
        }
        prop_assert!(!offline || world.asked.is_empty());
    }
}
