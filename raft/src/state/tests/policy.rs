//! The policy of admission, verdicts on signatures, and sealed secrets.

use bytes::Bytes;

use super::bench::{Bench, node};
use crate::command::{Command, Outcome, Refusal};
use crate::digest::Digest;
use crate::limits::{
    POLICY_MAX, SEALED_COUNT_MAX, SEALED_MAX, SEALED_NAME_MAX, SIGNER_MAX, SIGNERS_MAX, VERDICTS_MAX,
};
use crate::planted::Planted;
use crate::state::key::Table;
use crate::state::{Import, State, View};

fn bench() -> Bench {
    Bench::born(Planted::NONE, 1, 1).raised()
}

fn set(base: Option<u64>, document: &str) -> Command {
    Command::SetPolicy { base, document: Bytes::copy_from_slice(document.as_bytes()) }
}

fn image(text: impl AsRef<[u8]>) -> Digest {
    Digest::sha256(text.as_ref())
}

fn verdict(digest: Digest, revision: u64, names: &[&str]) -> Command {
    Command::PutVerdict { digest, revision, signed_by: names.iter().map(|name| (*name).to_owned()).collect() }
}

fn seal(name: &str, base: u64, ciphertext: &str) -> Command {
    let ciphertext = Bytes::copy_from_slice(ciphertext.as_bytes());
    Command::PutSealed { name: name.to_owned(), base, ciphertext }
}

fn signed_by(view: &View, digest: Digest) -> Vec<String> {
    view.verdict(&digest).unwrap().unwrap_or_default()
}

fn rows(view: &View, table: Table) -> usize {
    let mut count = 0;
    let mut visit = |_: &[u8], _: &[u8]| {
        count += 1;
        Ok(true)
    };
    crate::state::rows::Rows::scan(view.rows(), table, &[], None, &mut visit).unwrap();
    count
}

#[test]
fn there_is_no_policy_before_the_first() {
    let mut bench = bench();
    assert_eq!((bench.view().policy().unwrap(), bench.view().policy_revision().unwrap()), (None, None));
    let refused = Outcome::Refused(Refusal::RevisionDiffers { current: 0 });
    assert_eq!(bench.run(set(Some(3), "x")), refused);
    assert_eq!(bench.run(verdict(image("a"), 0, &["k"])), refused);
    let first = bench.done(set(Some(0), "one"));
    let row = bench.view().policy().unwrap().unwrap();
    assert_eq!((row.revision, &row.document[..]), (first, &b"one"[..]));
}

#[test]
fn a_policy_replaces_the_one_that_was_seen() {
    let mut bench = bench();
    let first = bench.done(set(None, "one"));
    let second = bench.done(set(Some(first), "two"));
    assert!(second > first);
    for base in [0, first, second + 1] {
        let refused = Refusal::RevisionDiffers { current: second };
        assert_eq!(bench.run(set(Some(base), "late")), Outcome::Refused(refused));
    }
    assert_eq!(bench.view().policy().unwrap().unwrap().document, "two");
    let third = bench.done(set(None, "one"));
    assert_eq!(bench.view().policy_revision().unwrap(), Some(third), "an earlier one is a new one");
    assert_eq!(rows(&bench.view(), Table::Policy), 1);
}

#[test]
fn the_current_policy_again_changes_nothing() {
    let mut bench = bench();
    let revision = bench.done(set(None, ""));
    bench.done(verdict(image("a"), revision, &["k"]));
    let was = bench.view().policy().unwrap();
    for base in [None, Some(revision)] {
        assert_eq!(bench.done(set(base, "")), revision, "{base:?}");
    }
    let refused = Refusal::RevisionDiffers { current: revision };
    for base in [0, revision + 1] {
        assert_eq!(bench.run(set(Some(base), "")), Outcome::Refused(refused.clone()));
    }
    assert_eq!(bench.view().policy().unwrap(), was);
    assert_eq!(signed_by(&bench.view(), image("a")), ["k"]);
    assert!(bench.done(set(Some(revision), "two")) > revision);
    assert_eq!(signed_by(&bench.view(), image("a")), [] as [String; 0]);
}

#[test]
fn a_retry_gets_what_came_of_the_first() {
    let mut bench = bench();
    let first = bench.run_as(node(1), 1, 1_000, set(Some(0), "one"));
    let again = bench.run_as(node(1), 1, 1_000, set(Some(0), "one"));
    assert_eq!(first.outcome, Outcome::Done);
    assert_eq!(first, again);
}

#[test]
fn a_verdict_gains_keys_and_ends_with_its_policy() {
    let mut bench = bench();
    let revision = bench.done(set(None, "one"));
    let first = bench.done(verdict(image("a"), revision, &["m", "k", "m"]));
    assert_eq!(bench.done(verdict(image("a"), revision, &["k"])), first, "that is known");
    assert_eq!(signed_by(&bench.view(), image("a")), ["k", "m"]);
    assert!(bench.done(verdict(image("a"), revision, &["l"])) > first);
    assert_eq!(signed_by(&bench.view(), image("a")), ["k", "l", "m"]);
    assert_eq!(bench.view().verdict(&image("b")).unwrap(), None);

    let next = bench.done(set(Some(revision), "two"));
    assert_eq!(bench.view().verdict(&image("a")).unwrap(), None);
    let late = bench.run(verdict(image("a"), revision, &["k"]));
    assert_eq!(late, Outcome::Refused(Refusal::RevisionDiffers { current: next }));
    bench.done(verdict(image("a"), next, &["x"]));
    assert_eq!(signed_by(&bench.view(), image("a")), ["x"]);
    assert_eq!((rows(&bench.view(), Table::Verdict), rows(&bench.view(), Table::VerdictAt)), (1, 1));
}

#[test]
fn the_oldest_verdict_makes_room() {
    let mut bench = bench();
    let revision = bench.done(set(None, "one"));
    let all = |range: std::ops::Range<u64>| range.map(|n| verdict(image(n.to_be_bytes()), revision, &["k"]));
    let entries: Vec<_> = all(0..VERDICTS_MAX).map(|command| bench.entry(command)).collect();
    for chunk in entries.chunks(1_000) {
        bench.state.apply(chunk).unwrap();
        bench.state.checkpoint().unwrap();
    }
    // The first says something new, so that the second is the oldest.
    bench.done(verdict(image(0u64.to_be_bytes()), revision, &["l"]));
    bench.done(verdict(image("one more"), revision, &["k"]));
    let view = bench.view();
    assert_eq!(signed_by(&view, image(0u64.to_be_bytes())), ["k", "l"]);
    assert_eq!(view.verdict(&image(1u64.to_be_bytes())).unwrap(), None);
    assert!(view.verdict(&image(2u64.to_be_bytes())).unwrap().is_some());
    assert_eq!(rows(&view, Table::Verdict) as u64, VERDICTS_MAX);
    assert_eq!(rows(&view, Table::VerdictAt) as u64, VERDICTS_MAX);
    bench.done(set(None, "two"));
    assert_eq!(rows(&bench.view(), Table::Verdict) + rows(&bench.view(), Table::VerdictAt), 0);
}

#[test]
fn a_secret_replaces_the_one_that_was_seen() {
    let mut bench = bench();
    assert_eq!(bench.view().sealed("ca").unwrap(), None);
    let first = bench.done(seal("ca", 0, "one"));
    for (base, current) in [(0, first), (first + 1, first)] {
        let refused = Outcome::Refused(Refusal::RevisionDiffers { current });
        assert_eq!(bench.run(seal("ca", base, "late")), refused);
    }
    let other = bench.done(seal("other", 0, "o"));
    let second = bench.done(seal("ca", first, "two"));
    let row = |name| bench.view().sealed(name).unwrap().map(|row| (row.index, row.ciphertext));
    assert_eq!(row("ca"), Some((second, Bytes::from("two"))));
    assert_eq!(row("other"), Some((other, Bytes::from("o"))));
}

#[test]
fn what_is_too_large_or_too_much_is_refused() {
    let mut bench = bench();
    let long = |len: usize| "x".repeat(len);
    let revision = bench.done(set(None, &long(POLICY_MAX)));
    bench.done(seal(&long(SEALED_NAME_MAX), 0, &long(SEALED_MAX)));
    let names: Vec<String> = (0..SIGNERS_MAX).map(|n| format!("{n:0SIGNER_MAX$}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    bench.done(verdict(image("a"), revision, &names));
    let invalid = [
        set(None, &long(POLICY_MAX + 1)),
        seal(&long(SEALED_NAME_MAX + 1), 0, ""),
        seal("s", 0, &long(SEALED_MAX + 1)),
        seal("", 0, ""),
        seal("a b", 0, ""),
        seal("a\0", 0, ""),
        verdict(image("a"), revision, &["one too many"]),
        verdict(image("b"), revision, &[]),
        verdict(image("b"), revision, &["k", ""]),
        verdict(image("b"), revision, &[&long(SIGNER_MAX + 1)]),
    ];
    for command in invalid {
        let text = format!("{command:?}");
        assert_eq!(bench.run(command), Outcome::Refused(Refusal::Invalid), "{}", &text[..60.min(text.len())]);
    }
    for n in 1..SEALED_COUNT_MAX {
        bench.done(seal(&format!("s{n}"), 0, ""));
    }
    let limit = SEALED_COUNT_MAX;
    assert_eq!(bench.run(seal("more", 0, "")), Outcome::Refused(Refusal::TooMany { limit }));
    let known = bench.view().sealed("s1").unwrap().unwrap().index;
    bench.done(seal("s1", known, "again"));
}

#[test]
fn below_the_level_there_is_none_of_it() {
    let mut bench = Bench::born(Planted::NONE, 1, 1);
    bench.done(Command::SetLevel { level: 2 });
    for command in [set(None, "x"), verdict(image("a"), 0, &["k"]), seal("s", 0, "x")] {
        assert_eq!(bench.run(command), Outcome::Refused(Refusal::LevelUnsupported));
    }
}

#[test]
fn all_of_it_travels_with_a_snapshot() {
    let mut bench = bench();
    let revision = bench.done(set(None, "one"));
    bench.done(verdict(image("a"), revision, &["k"]));
    bench.done(seal("ca", 0, "secret"));
    let copy = bench.dir.path().join("copy.redb");
    Import::copy(&bench.view(), &copy).unwrap();
    let (was, copied) = (bench.view(), State::open(&copy, Planted::NONE).unwrap().view().unwrap());
    assert_eq!(copied.policy().unwrap(), was.policy().unwrap());
    assert_eq!(signed_by(&copied, image("a")), ["k"]);
    assert_eq!(copied.sealed("ca").unwrap(), was.sealed("ca").unwrap());
    assert_eq!(copied.state_hash().unwrap(), was.state_hash().unwrap());
}
