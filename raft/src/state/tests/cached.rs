//! What is cached of upstream registries' repositories, and what is pinned.

use super::bench::{Bench, commit, held_by, manifest, put, repo, tag};
use crate::command::{Command, NewManifest, Outcome, Refusal};
use crate::digest::Digest;
use crate::limits::{CACHED_MAX, CACHED_TAGS_MAX, PINS_MAX, RECLAIMED_TAGS};
use crate::name::{Reference, RepoName};
use crate::planted::Planted;
use crate::state::row::TAG;
use crate::state::{Import, State, View};

const NGINX: &str = "f/docker.io/library/nginx";

fn bench() -> Bench {
    Bench::born(Planted::NONE, 3, 3).raised()
}

fn blob(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

fn cache(name: &str, manifest: &NewManifest, of: Option<(&str, u64)>) -> Command {
    let seen = of.map(|(name, seen)| (tag(name), seen));
    Command::PutCached { repo: repo(name), manifest: manifest.clone(), tag: seen }
}

/// The tag alone, of what is cached already.
fn tag_only(name: &str, manifest: &NewManifest, of: &str, seen: u64) -> Command {
    Command::TagCached { repo: repo(name), digest: manifest.digest, tag: tag(of), seen }
}

fn drop_all(name: &str, manifests: &[&NewManifest]) -> Command {
    Command::DropCached { repo: repo(name), digests: manifests.iter().map(|one| one.digest).collect() }
}

fn refused(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        Outcome::Done => panic!("it was done"),
    }
}

fn points_to(view: &View, name: &str, of: &str) -> Option<Digest> {
    view.tag(&repo(name), &tag(of)).unwrap().map(|row| row.digest)
}

#[test]
fn a_cached_manifest_needs_nothing_that_it_names() {
    let mut bench = bench();
    let (layer, subject) = (blob("layer"), blob("subject"));
    let mut m = manifest("m", &[layer], &[]);
    (m.subject, m.descriptor) = (Some(subject), Some("{}".into()));
    let index = manifest("index", &[], &[m.digest, blob("of another architecture")]);
    bench.done(Command::Tick { elapsed: 70 });
    let first = bench.done(cache(NGINX, &index, Some(("1", 0))));
    bench.done(cache(NGINX, &m, None));
    let (view, nginx) = (bench.view(), repo(NGINX));
    assert_eq!(view.tag(&nginx, &tag("1")).unwrap().unwrap().revision, first);
    assert_eq!(view.body(&m.digest).unwrap().unwrap(), m.bytes);
    assert_eq!(view.lists(&nginx, &layer).unwrap(), Some(m.digest));
    assert_eq!(view.lists(&repo("f/quay.io/nginx"), &layer).unwrap(), None, "another name lists it not");
    assert_eq!(view.referrer(&nginx, &subject, &m.digest).unwrap().unwrap(), "{}");
    assert_eq!(view.parents(&nginx, &m.digest).unwrap(), [index.digest]);
    assert!(view.parents(&nginx, &index.digest).unwrap().is_empty());
    assert_eq!(view.tags_of(&nginx, &index.digest).unwrap(), [tag("1")]);
    assert_eq!(view.asked_for(&nginx, &m.digest).unwrap(), Some(70));
    assert_eq!(view.link(&nginx, &layer).unwrap(), None);
    assert_eq!(view.blob(&layer).unwrap(), None, "no blob is durable by being named");
}

#[test]
fn only_what_is_an_upstreams_by_its_name_is_cached() {
    let mut bench = bench();
    for name in ["nginx", "f", "f-g/a"] {
        assert_eq!(refused(bench.run(cache(name, &manifest("m", &[], &[]), None))), Refusal::Invalid);
        assert_eq!(refused(bench.run(drop_all(name, &[]))), Refusal::Invalid);
        let pin = vec![(repo(name), Reference::Tag(tag("1")))];
        assert_eq!(refused(bench.run(Command::SetPins { add: pin, remove: vec![] })), Refusal::Invalid);
    }
}

#[test]
fn nothing_is_pushed_where_an_upstreams_repositories_are() {
    let a = blob("a");
    let mount = |to: &str| Command::MountBlob { from: repo("own"), to: repo(to), digest: a };
    let pushes =
        |to: &str| [commit(to, a, held_by(&[1, 2])), mount(to), put(to, &manifest("m", &[], &[]), &["t"])];
    let mut bench = Bench::born(Planted::NONE, 3, 3);
    bench.done(commit("own", a, held_by(&[1, 2])));
    // Who pushed there before the level rose finds it again.
    for push in pushes("f/old") {
        bench.done(push);
    }
    let mut bench = bench.raised();
    for push in pushes("f/old").into_iter().chain(pushes("f/new")) {
        assert_eq!(refused(bench.run(push)), Refusal::Invalid);
    }
    for push in pushes("g") {
        bench.done(push);
    }
    let view = bench.view();
    assert!(!view.repo_exists(&repo("f/new")).unwrap());
    assert!(view.tag(&repo("f/old"), &tag("t")).unwrap().is_some());
    // And may take it away again.
    bench.done(Command::DeleteManifest { repo: repo("f/old"), digest: manifest("m", &[], &[]).digest });
    bench.done(Command::DeleteLink { repo: repo("f/old"), digest: a });
    assert!(!bench.view().repo_exists(&repo("f/old")).unwrap());
}

#[test]
fn a_slow_refresh_does_not_move_a_tag_back() {
    let mut bench = bench();
    let (d0, d1, d2) = (manifest("0", &[], &[]), manifest("1", &[], &[]), manifest("2", &[], &[]));
    let seen = bench.done(cache(NGINX, &d0, Some(("t", 0))));
    let moved = bench.done(cache(NGINX, &d2, Some(("t", seen))));
    // It asked when d1 was there, and comes late.
    let late = refused(bench.run(cache(NGINX, &d1, Some(("t", seen)))));
    assert_eq!(late, Refusal::ConditionFailed { current: Some(d2.digest) });
    let absent = refused(bench.run(cache(NGINX, &d1, Some(("t", 0)))));
    assert_eq!(absent, Refusal::ConditionFailed { current: Some(d2.digest) });
    let gone = refused(bench.run(cache(NGINX, &d1, Some(("u", seen)))));
    assert_eq!(gone, Refusal::ConditionFailed { current: None });
    let view = bench.view();
    assert_eq!(points_to(&view, NGINX, "t"), Some(d2.digest));
    assert_eq!(view.manifest(&repo(NGINX), &d1.digest).unwrap(), None, "a refusal stores nothing");
    let row = view.tag(&repo(NGINX), &tag("t")).unwrap().unwrap();
    assert_eq!(row.history.iter().map(|one| one.digest).collect::<Vec<_>>(), [d0.digest]);
    // Two that fetched the same agree, whatever each of them saw.
    for seen in [0, seen, moved] {
        assert_eq!(bench.done(cache(NGINX, &d2, Some(("t", seen)))), moved);
    }
}

#[test]
fn what_is_recorded_again_reports_the_first_entry() {
    let mut bench = bench();
    let m = manifest("m", &[blob("a")], &[]);
    let first = bench.done(cache(NGINX, &m, None));
    let tagged = bench.done(cache(NGINX, &m, Some(("t", 0))));
    bench.done(Command::Tick { elapsed: 5 });
    assert_eq!(bench.done(cache(NGINX, &m, None)), first);
    assert_eq!(bench.done(cache(NGINX, &m, Some(("t", tagged)))), tagged);
    assert_eq!(bench.view().asked_for(&repo(NGINX), &m.digest).unwrap(), Some(5));
}

#[test]
fn dropping_takes_tags_edges_and_last_bytes_and_leaves_other_names_alone() {
    let mut bench = bench();
    let layer = blob("layer");
    let (m, other) = (manifest("m", &[layer], &[]), manifest("other", &[layer], &[]));
    bench.done(commit("own", layer, held_by(&[1, 2])));
    bench.done(put("own", &m, &["t"]));
    for name in [NGINX, "f/quay.io/nginx"] {
        let at = bench.done(cache(name, &m, Some(("one", 0))));
        bench.done(cache(name, &m, Some(("two", 0))));
        bench.done(cache(name, &other, Some(("other", 0))));
        assert!(at > 0);
    }
    bench.done(drop_all(NGINX, &[&m, &manifest("never there", &[], &[])]));
    let view = bench.view();
    assert_eq!(view.tags(&repo(NGINX), None, 9).unwrap(), [tag("other")]);
    assert_eq!(view.lists(&repo(NGINX), &layer).unwrap(), Some(other.digest));
    assert_eq!(view.asked_for(&repo(NGINX), &m.digest).unwrap(), None);
    assert_eq!(points_to(&view, "own", "t"), Some(m.digest));
    assert_eq!(points_to(&view, "f/quay.io/nginx", "two"), Some(m.digest));
    bench.done(drop_all(NGINX, &[&other]));
    bench.done(drop_all("f/quay.io/nginx", &[&m, &other]));
    let view = bench.view();
    assert_eq!(view.body(&other.digest).unwrap(), None);
    assert!(view.body(&m.digest).unwrap().is_some(), "it is pushed here as well");
    assert!(view.cached_repos(None, 9).unwrap().is_empty());
    assert!(view.in_use(&repo("own"), &layer).unwrap());
    assert!(view.link(&repo("own"), &layer).unwrap().is_some());
}

#[test]
fn pins_are_a_bounded_set() {
    let mut bench = bench();
    let pin = |n: u64| (repo(NGINX), Reference::Tag(tag(&format!("v{n}"))));
    let set = |add: Vec<(RepoName, Reference)>, remove| Command::SetPins { add, remove };
    bench.done(set((1..PINS_MAX).map(pin).collect(), vec![]));
    bench.done(set(vec![pin(1), pin(2)], vec![pin(PINS_MAX)]));
    assert_eq!(bench.view().pin_count().unwrap(), PINS_MAX - 1);
    bench.done(set(vec![pin(0)], vec![]));
    let full = Refusal::TooMany { limit: PINS_MAX };
    assert_eq!(refused(bench.run(set(vec![pin(PINS_MAX)], vec![]))), full);
    assert_eq!(refused(bench.run(set(vec![pin(PINS_MAX), pin(PINS_MAX + 1)], vec![pin(0)]))), full);
    assert!(bench.view().is_pinned(&repo(NGINX), &pin(0).1).unwrap(), "a refusal takes nothing away");
    bench.done(set(vec![pin(0)], vec![]));
    // What is in both lists stays, and makes no room.
    assert_eq!(refused(bench.run(set(vec![pin(0), pin(PINS_MAX)], vec![pin(0)]))), full);
    bench.done(set(vec![pin(PINS_MAX), pin(3)], vec![pin(3), pin(4)]));
    let view = bench.view();
    assert!(view.is_pinned(&repo(NGINX), &pin(3).1).unwrap());
    assert!(!view.is_pinned(&repo(NGINX), &pin(4).1).unwrap());
    assert_eq!(view.pins().unwrap().len() as u64, view.pin_count().unwrap());
    assert_eq!(view.pin_count().unwrap(), PINS_MAX);
}

#[test]
fn a_pin_keeps_what_it_leads_to_now() {
    let mut bench = bench();
    let child = manifest("child", &[blob("a")], &[]);
    let index = manifest("index", &[], &[child.digest, blob("not cached")]);
    let other = manifest("other", &[], &[]);
    let at = bench.done(cache(NGINX, &index, Some(("1", 0))));
    bench.done(cache(NGINX, &child, None));
    bench.done(cache(NGINX, &other, Some(("2", 0))));
    let add = vec![
        (repo(NGINX), Reference::Tag(tag("1"))),
        (repo(NGINX), Reference::Tag(tag("absent"))),
        (repo("f/quay.io/x"), Reference::Digest(other.digest)),
    ];
    bench.done(Command::SetPins { add: add.clone(), remove: vec![] });
    let pinned =
        |view: &View| view.pinned().unwrap().into_iter().map(|(_, digest)| digest).collect::<Vec<_>>();
    let mut expected = vec![child.digest, index.digest];
    expected.sort();
    assert_eq!(pinned(&bench.view()), expected);
    bench.done(cache(NGINX, &other, Some(("1", at))));
    assert_eq!(pinned(&bench.view()), [other.digest], "the tag leads elsewhere now");
    let mut pins = bench.view().pins().unwrap();
    pins.sort();
    let mut given = add;
    given.sort();
    assert_eq!(pins, given);
}

#[test]
fn what_nobody_asks_for_goes_unless_something_keeps_it() {
    let mut bench = bench();
    let child = manifest("child", &[blob("a")], &[]);
    let index = manifest("index", &[], &[child.digest]);
    let [old, wanted, by_digest, by_tag] =
        ["old", "wanted", "by digest", "by tag"].map(|text| manifest(text, &[blob("a")], &[]));
    bench.done(cache(NGINX, &index, Some(("index", 0))));
    for (m, name) in [(&child, None), (&old, Some(("old", 0))), (&wanted, None), (&by_digest, None)] {
        bench.done(cache(NGINX, m, name));
    }
    bench.done(cache(NGINX, &by_tag, Some(("pinned", 0))));
    let add = vec![
        (repo(NGINX), Reference::Digest(by_digest.digest)),
        (repo(NGINX), Reference::Tag(tag("pinned"))),
    ];
    bench.done(Command::SetPins { add: add.clone(), remove: vec![] });
    bench.done(put("own", &manifest("own", &[], &[]), &["t"]));
    bench.done(Command::Tick { elapsed: 100 });
    bench.done(Command::WantCached {
        manifests: vec![(repo(NGINX), wanted.digest), (repo(NGINX), blob("no"))],
    });
    let all = [&old, &child, &index, &wanted, &by_digest, &by_tag].map(|m| (repo(NGINX), m.digest));
    let own = (repo("own"), manifest("own", &[], &[]).digest);
    let manifests: Vec<_> = all.into_iter().chain([own]).collect();
    let reclaim = |before| Command::ReclaimCached { manifests: manifests.clone(), before };
    let left = |bench: &Bench| {
        let cached = bench.view().cached("f/", None, 99).unwrap();
        [
            ("old", &old),
            ("child", &child),
            ("index", &index),
            ("wanted", &wanted),
            ("digest", &by_digest),
            ("tag", &by_tag),
        ]
        .into_iter()
        .filter(|(_, m)| cached.iter().any(|one| one.digest == m.digest))
        .map(|(name, _)| name)
        .collect::<Vec<_>>()
    };
    // The first was asked for at 0.
    bench.done(reclaim(0));
    assert_eq!(left(&bench).len(), 6, "nothing is that old");
    bench.done(reclaim(100));
    assert_eq!(
        left(&bench),
        ["child", "wanted", "digest", "tag"],
        "the child was named until the index went"
    );
    assert_eq!(points_to(&bench.view(), NGINX, "old"), None, "its tag goes with it");
    bench.done(reclaim(100));
    assert_eq!(left(&bench), ["wanted", "digest", "tag"]);
    bench.done(reclaim(u64::MAX));
    assert_eq!(left(&bench), ["wanted", "digest", "tag"], "nobody can have asked after now");
    bench.done(Command::SetPins { add: vec![], remove: add });
    bench.done(Command::Tick { elapsed: 1 });
    bench.done(reclaim(u64::MAX));
    assert!(left(&bench).is_empty());
    assert!(points_to(&bench.view(), "own", "t").is_some(), "what was pushed is not cached");
}

#[test]
fn lists_of_what_is_cached_are_paged_and_not_in_the_catalog() {
    let mut bench = bench();
    let (m, n) = (manifest("m", &[], &[]), manifest("n", &[], &[]));
    let upstreams = ["f/docker.io/library/a", "f/docker.io/library/b", "f/quay.io/a"];
    for name in upstreams {
        bench.done(cache(name, &m, None));
        bench.done(cache(name, &n, Some(("t", 0))));
    }
    for name in ["a", "f", "f-g/x", "f.g", "f0", "g"] {
        bench.done(put(name, &m, &[]));
    }
    let view = bench.view();
    let names = |list: Vec<RepoName>| list.iter().map(|one| one.to_string()).collect::<Vec<_>>();
    assert_eq!(names(view.repos(None, 99).unwrap()), ["a", "f", "f-g/x", "f.g", "f0", "g"]);
    assert_eq!(names(view.repos(Some("f/docker.io/library/a"), 1).unwrap()), ["f0"]);
    assert_eq!(names(view.cached_repos(None, 99).unwrap()), upstreams);
    assert_eq!(names(view.cached_repos(Some(upstreams[0]), 1).unwrap()), upstreams[1..2]);
    for (prefix, expected) in [("f/", 6), ("f/docker.io/", 4), (NGINX, 0), ("f/q", 2)] {
        let (mut found, mut last) = (0, None::<crate::state::Cached>);
        loop {
            let after = last.as_ref().map(|one| (&one.repo, &one.digest));
            let page = view.cached(prefix, after, 1).unwrap();
            let Some(one) = page.into_iter().next() else { break };
            assert!(last.is_none_or(|last| (&last.repo, &last.digest) < (&one.repo, &one.digest)));
            (found, last) = (found + 1, Some(one));
        }
        assert_eq!(found, expected, "{prefix}");
    }
}

#[test]
fn what_is_cached_and_pinned_travels_with_the_state() {
    let mut bench = bench();
    bench.done(cache(NGINX, &manifest("m", &[blob("a")], &[]), Some(("t", 0))));
    bench.done(Command::SetPins { add: vec![(repo(NGINX), Reference::Tag(tag("t")))], remove: vec![] });
    let to = bench.dir.path().join("imported.redb");
    Import::copy(&bench.view(), &to).unwrap();
    let again = State::open(&to, Planted::NONE).unwrap();
    assert_eq!(super::file::rows(&again.view().unwrap()), super::file::rows(&bench.view()));
    assert_eq!(again.view().unwrap().pinned().unwrap(), bench.view().pinned().unwrap());
    assert_eq!(again.view().unwrap().pinned().unwrap().len(), 1);
}

#[test]
fn what_is_cached_has_a_bound_and_room_comes_back() {
    let mut bench = bench();
    let padded = |n: usize| manifest(&format!("{n} {}", "x".repeat(100_000)), &[blob("a")], &[]);
    let mut index = 0;
    let full = loop {
        match bench.run(cache(NGINX, &padded(index), None)) {
            Outcome::Done => index += 1,
            Outcome::Refused(refusal) => break refusal,
        }
        assert!(index < 100, "there is no end of it");
    };
    assert_eq!(full, Refusal::TooMany { limit: CACHED_MAX });
    let held = bench.view().cached_bytes().unwrap();
    assert!(held <= CACHED_MAX && held > CACHED_MAX - 101_000, "{held}");
    assert!(bench.view().manifest(&repo(NGINX), &padded(index).digest).unwrap().is_none());
    // Another name's manifest with the same bytes is one more; one that is small finds room.
    assert_eq!(refused(bench.run(cache("f/quay.io/x", &padded(0), None))), full);
    let small = manifest("small", &[], &[]);
    bench.done(cache(NGINX, &small, Some(("t", 0))));
    // What is there may be recorded again, under a tag too, and counts once, also as another type.
    let held = bench.view().cached_bytes().unwrap();
    bench.done(cache(NGINX, &padded(0), Some(("u", 0))));
    let mut other = padded(1);
    (other.media_type, other.blobs) = ("other".into(), vec![]);
    bench.done(cache(NGINX, &other, None));
    let held = held - 256 + TAG;
    assert_eq!(bench.view().cached_bytes().unwrap(), held, "one edge less and a tag");
    // Pushed ones have no part in it.
    let own = manifest(&"y".repeat(200_000), &[], &[]);
    bench.done(put("app", &own, &["v1"]));
    bench.done(Command::DeleteManifest { repo: repo("app"), digest: own.digest });
    assert_eq!(bench.view().cached_bytes().unwrap(), held);
    // Room comes back, however they go; what is pinned stays.
    bench.done(Command::SetPins {
        add: vec![(repo(NGINX), Reference::Digest(padded(2).digest))],
        remove: vec![],
    });
    bench.done(drop_all(NGINX, &[&padded(0)]));
    bench.done(cache(NGINX, &padded(index), None));
    bench.done(Command::Tick { elapsed: 9 });
    let all: Vec<_> = (0..=index).map(|n| (repo(NGINX), padded(n).digest)).collect();
    bench.done(Command::ReclaimCached { manifests: all, before: 9 });
    let left = bench.view().cached("f/", None, 99).unwrap();
    let left: Vec<_> = left.into_iter().map(|one| one.digest).collect();
    let mut expect = [padded(2).digest, small.digest];
    expect.sort();
    assert_eq!(left, expect);
    assert_eq!(bench.view().cached_bytes().unwrap(), padded(2).weight() + small.weight() + TAG);
}

#[test]
fn a_tag_of_what_is_cached_travels_without_its_bytes() {
    let mut bench = bench();
    let (m, n) = (manifest("m", &[blob("a")], &[]), manifest("n", &[], &[]));
    assert_eq!(refused(bench.run(tag_only(NGINX, &m, "t", 0))), Refusal::NotFound);
    assert_eq!(refused(bench.run(tag_only("own", &m, "t", 0))), Refusal::Invalid);
    bench.done(commit("own", blob("a"), held_by(&[1, 2])));
    bench.done(put("own", &m, &["t"]));
    assert_eq!(refused(bench.run(tag_only(NGINX, &m, "t", 0))), Refusal::NotFound, "it is in another name");
    bench.done(cache(NGINX, &m, None));
    bench.done(cache(NGINX, &n, None));
    bench.done(Command::Tick { elapsed: 7 });
    let at = bench.done(tag_only(NGINX, &m, "t", 0));
    assert_eq!(points_to(&bench.view(), NGINX, "t"), Some(m.digest));
    assert_eq!(bench.view().asked_for(&repo(NGINX), &m.digest).unwrap(), Some(7));
    // The same conditions hold as with its bytes.
    let late = refused(bench.run(tag_only(NGINX, &n, "t", 0)));
    assert_eq!(late, Refusal::ConditionFailed { current: Some(m.digest) });
    for seen in [0, at, 99] {
        assert_eq!(bench.done(tag_only(NGINX, &m, "t", seen)), at);
    }
    let moved = bench.done(tag_only(NGINX, &n, "t", at));
    assert!(moved > at);
    assert_eq!(points_to(&bench.view(), NGINX, "t"), Some(n.digest));
    assert!(bench.view().tags_of(&repo(NGINX), &m.digest).unwrap().is_empty());
}

#[test]
fn tags_of_what_is_cached_weigh_and_have_a_bound() {
    let mut bench = bench();
    let (m, n) = (manifest("m", &[], &[]), manifest("n", &[], &[]));
    bench.done(cache(NGINX, &m, Some(("0", 0))));
    bench.done(cache(NGINX, &n, None));
    let held = |bench: &Bench| bench.view().cached_bytes().unwrap();
    let alone = m.weight() + n.weight();
    for of in 1..CACHED_TAGS_MAX {
        let command = match of % 2 {
            0 => cache(NGINX, &m, Some((&of.to_string(), 0))),
            _ => tag_only(NGINX, &m, &of.to_string(), 0),
        };
        bench.done(command);
        assert_eq!(held(&bench), alone + (of + 1) * TAG);
    }
    let full = Refusal::TooMany { limit: CACHED_TAGS_MAX };
    assert_eq!(refused(bench.run(tag_only(NGINX, &m, "more", 0))), full);
    assert_eq!(refused(bench.run(cache(NGINX, &m, Some(("more", 0))))), full);
    // What is there stays as it is; what moves away makes room, and weighs there what it weighed here.
    let seen = bench.done(tag_only(NGINX, &m, "0", 0));
    bench.done(tag_only(NGINX, &n, "0", seen));
    assert_eq!(held(&bench), alone + CACHED_TAGS_MAX * TAG);
    bench.done(tag_only(NGINX, &m, "more", 0));
    assert_eq!(held(&bench), alone + (CACHED_TAGS_MAX + 1) * TAG);
    let condition = Some(crate::command::TagCondition::Is(n.digest));
    bench.done(Command::DeleteTag { repo: repo(NGINX), tag: tag("0"), condition });
    assert_eq!(held(&bench), alone + CACHED_TAGS_MAX * TAG);
    bench.done(drop_all(NGINX, &[&m]));
    assert_eq!(held(&bench), n.weight(), "they go with it");
}

#[test]
fn tags_alone_do_not_fill_the_state() {
    let mut bench = bench();
    let mut index = 0;
    'full: loop {
        let m = manifest(&format!("m{index}"), &[], &[]);
        if let Outcome::Refused(refusal) = bench.run(cache(NGINX, &m, None)) {
            assert_eq!(refusal, Refusal::TooMany { limit: CACHED_MAX });
            break;
        }
        for of in 0..CACHED_TAGS_MAX {
            if let Outcome::Refused(refusal) = bench.run(tag_only(NGINX, &m, &format!("{index}-{of}"), 0)) {
                assert_eq!(refusal, Refusal::TooMany { limit: CACHED_MAX });
                break 'full;
            }
        }
        index += 1;
        assert!(index < 100, "there is no end of it");
    }
    assert!(bench.view().cached_bytes().unwrap() <= CACHED_MAX);
    // What nobody asks for goes in steps that have a bound.
    bench.done(Command::Tick { elapsed: 9 });
    let all: Vec<_> =
        (0..=index).map(|n| (repo(NGINX), manifest(&format!("m{n}"), &[], &[]).digest)).collect();
    let tags = |bench: &Bench| bench.view().tags(&repo(NGINX), None, 9999).unwrap().len() as u64;
    let mut before = tags(&bench);
    assert!(before > 2 * RECLAIMED_TAGS, "{before}");
    while before > 0 {
        bench.done(Command::ReclaimCached { manifests: all.clone(), before: 9 });
        let after = tags(&bench);
        assert!(after < before && before - after < RECLAIMED_TAGS + CACHED_TAGS_MAX, "{before} to {after}");
        before = after;
    }
    bench.done(Command::ReclaimCached { manifests: all, before: 9 });
    assert_eq!(bench.view().cached_bytes().unwrap(), 0);
}

#[test]
fn tags_that_were_pushed_before_the_level_rose_are_counted_with_what_is_cached_of_them() {
    let mut bench = Bench::born(Planted::NONE, 3, 3);
    let m = manifest("m", &[], &[]);
    bench.done(put("f/old", &m, &["a", "b"]));
    let mut bench = bench.raised();
    assert_eq!(bench.view().cached_bytes().unwrap(), 0);
    assert_eq!(refused(bench.run(tag_only("f/old", &m, "c", 0))), Refusal::NotFound, "it is not cached");
    bench.done(cache("f/old", &m, Some(("a", 0))));
    assert_eq!(bench.view().cached_bytes().unwrap(), m.weight() + 2 * TAG);
    bench.done(Command::DeleteTag { repo: repo("f/old"), tag: tag("b"), condition: None });
    bench.done(Command::DeleteManifest { repo: repo("f/old"), digest: m.digest });
    assert_eq!(bench.view().cached_bytes().unwrap(), 0);
}
