//! Images, namespaces and what is known, and what comes of it.

use trow_raft::Digest;

use super::super::{Copies, Fact, Facts, Policy};
use super::image;

const POLICY: &str = "\
version: 1
default: deny
forbidTags: [latest]
allow:
  - image: own.io/exists/*
    require: [exists]
  - image: own.io/copies/*
    require: [replicated]
  - image: own.io/tag/*
    require: [resolves]
  - image: own.io/signed/*
    signedBy: [a, b]
  - image: own.io/all/*
    requireDigest: true
    require: [exists, resolves, replicated]
    signedBy: [a]
  - image: own.io/free/**
  - image: own.io/free/tagged
    requireDigest: false
  - image: own.io/free/v:1.*
    require: [exists]
deny:
  - image: own.io/exists/bad
  - image: own.io/free/v:1.3
namespaces:
  - match: [warn-*, both]
    mode: warn
  - match: [audit-*, both]
    mode: audit
    requireDigest: true
  - match: [open]
    default: allow
    mode: warn
    deny: []
    forbidTags: []
  - match: [\"*-strict\"]
    forbidTags: [\"*-rc*\", latest]
    requireDigest: true
  - match: [own]
    allow: [{image: own.io/exists/*}, {image: own.io/signed/*, signedBy: [b]}]
  - match: [none]
    allow: []
  - match: [\"*\"]
    mode: enforce
";

/// Namespace, image, what is known, what comes of it, and a part of why. `@D` and `@E` are digests. Of what is known `?`
/// is what could not be found out, and what is left out nobody asked for.
const ROWS: &[(&str, &str, &str, &str, &str)] = &[
    // It must exist.
    ("x", "own.io/exists/a:1", "exists=yes", "enforce allow allow[0]", "it is as the rule requires: exists"),
    ("x", "own.io/exists/a:1", "exists=no", "enforce deny allow[0]", "there is no such image"),
    (
        "x",
        "own.io/exists/a:1",
        "exists=?",
        "enforce deny allow[0]",
        "whether it exists could not be found out: it rains",
    ),
    ("x", "own.io/exists/a:1", "", "enforce deny allow[0]", "it was not looked up"),
    ("x", "own.io/exists/a:1", "copies=yes tag=D signed=a", "enforce deny allow[0]", "it was not looked up"),
    ("x", "own.io/exists/a@D", "exists=yes", "enforce allow allow[0]", "exists"),
    ("x", "own.io/exists/a@D", "exists=no", "enforce deny allow[0]", "no such image"),
    (
        "x",
        "own.io/exists/a:latest",
        "exists=yes",
        "enforce deny forbidTags \"latest\"",
        "own.io/exists/a:<version>",
    ),
    (
        "x",
        "own.io/exists/a",
        "exists=yes",
        "enforce deny forbidTags \"latest\"",
        "own.io/exists/a@sha256:<digest>",
    ),
    ("x", "own.io/exists/bad:1", "exists=yes", "enforce deny deny[0]", "the policy forbids it"),
    ("x", "own.io/exists/a/b:1", "exists=yes", "enforce deny default", "no rule allows it"),
    // All of it must be on its nodes.
    ("x", "own.io/copies/a:1", "copies=yes", "enforce allow allow[1]", "replicated"),
    ("x", "own.io/copies/a:1", "copies=no", "enforce deny allow[1]", "n2 lacks it"),
    (
        "x",
        "own.io/copies/a:1",
        "copies=?",
        "enforce deny allow[1]",
        "whether it is replicated could not be found out: it rains",
    ),
    ("x", "own.io/copies/a:1", "", "enforce deny allow[1]", "it was not looked up"),
    ("x", "own.io/copies/a:1", "exists=yes", "enforce deny allow[1]", "it was not looked up"),
    ("x", "own.io/copies/a@D", "copies=yes", "enforce allow allow[1]", ""),
    // Its tag must stand for a digest.
    ("x", "own.io/tag/a:1", "tag=D", "enforce allow allow[2]", "resolves"),
    ("x", "own.io/tag/a:1", "tag=none", "enforce deny allow[2]", "its tag 1 is not there"),
    (
        "x",
        "own.io/tag/a:1",
        "tag=?",
        "enforce deny allow[2]",
        "what its tag resolves to could not be found out: it rains",
    ),
    ("x", "own.io/tag/a:1", "", "enforce deny allow[2]", "it was not looked up"),
    ("x", "own.io/tag/a:1@D", "tag=D", "enforce allow allow[2]", ""),
    ("x", "own.io/tag/a:1@D", "tag=E", "enforce deny allow[2]", "its tag 1 stands for sha256:"),
    ("x", "own.io/tag/a:1@D", "tag=none", "enforce deny allow[2]", "is not there"),
    ("x", "own.io/tag/a:1@D", "tag=?", "enforce deny allow[2]", "it rains"),
    ("x", "own.io/tag/a:1@D", "", "enforce deny allow[2]", "it was not looked up"),
    ("x", "own.io/tag/a@D", "", "enforce allow allow[2]", ""),
    ("x", "own.io/tag/a@D", "tag=none", "enforce allow allow[2]", ""),
    ("x", "own.io/tag/a@D", "tag=?", "enforce allow allow[2]", ""),
    ("x", "own.io/tag/a:latest@D", "tag=D", "enforce deny forbidTags \"latest\"", ""),
    // It must be signed.
    ("x", "own.io/signed/a:1", "signed=a", "enforce allow allow[3]", "signed by a or b"),
    ("x", "own.io/signed/a:1", "signed=b", "enforce allow allow[3]", ""),
    ("x", "own.io/signed/a:1", "signed=a,b", "enforce allow allow[3]", ""),
    ("x", "own.io/signed/a:1", "signed=c,b", "enforce allow allow[3]", ""),
    ("x", "own.io/signed/a:1", "signed=c", "enforce deny allow[3]", "it has no signature by a or b"),
    ("x", "own.io/signed/a:1", "signed=A", "enforce deny allow[3]", "no signature"),
    ("x", "own.io/signed/a:1", "signed=none", "enforce deny allow[3]", "no signature"),
    (
        "x",
        "own.io/signed/a:1",
        "signed=?",
        "enforce deny allow[3]",
        "whether it is signed could not be found out: it rains",
    ),
    ("x", "own.io/signed/a:1", "", "enforce deny allow[3]", "it was not looked up"),
    ("x", "own.io/signed/a@D", "signed=a", "enforce allow allow[3]", ""),
    ("x", "own.io/signed/a@D", "", "enforce deny allow[3]", "it was not looked up"),
    // All of that: what is asked first is told first.
    (
        "x",
        "own.io/all/a:1@D",
        "exists=yes copies=yes tag=D signed=a",
        "enforce allow allow[4]",
        "exists, replicated, resolves, signed by a",
    ),
    (
        "x",
        "own.io/all/a@D",
        "exists=yes copies=yes signed=a",
        "enforce allow allow[4]",
        "exists, replicated, signed by a",
    ),
    (
        "x",
        "own.io/all/a:1",
        "exists=yes copies=yes tag=D signed=a",
        "enforce deny requireDigest",
        "(allow[4] \"own.io/all/*\" requires it)",
    ),
    (
        "x",
        "own.io/all/a:latest",
        "exists=yes copies=yes tag=D signed=a",
        "enforce deny forbidTags \"latest\"",
        "",
    ),
    (
        "x",
        "own.io/all/a:1@D",
        "exists=no copies=no tag=E signed=none",
        "enforce deny allow[4]",
        "no such image",
    ),
    (
        "x",
        "own.io/all/a:1@D",
        "exists=yes copies=no tag=E signed=none",
        "enforce deny allow[4]",
        "its tag 1 stands for",
    ),
    (
        "x",
        "own.io/all/a:1@D",
        "exists=yes copies=no tag=D signed=none",
        "enforce deny allow[4]",
        "n2 lacks it",
    ),
    (
        "x",
        "own.io/all/a:1@D",
        "exists=yes copies=yes tag=D signed=none",
        "enforce deny allow[4]",
        "no signature by a:",
    ),
    (
        "x",
        "own.io/all/a:1@D",
        "exists=yes copies=yes tag=D signed=b",
        "enforce deny allow[4]",
        "no signature by a:",
    ),
    ("x", "own.io/all/a:1@D", "exists=yes copies=yes tag=D signed=?", "enforce deny allow[4]", "it rains"),
    ("x", "own.io/all/a:1@D", "exists=? copies=yes tag=D signed=a", "enforce deny allow[4]", "it rains"),
    ("x", "own.io/all/a:1@D", "exists=yes copies=? tag=D signed=a", "enforce deny allow[4]", "it rains"),
    ("x", "own.io/all/a:1@D", "exists=yes copies=yes tag=? signed=a", "enforce deny allow[4]", "it rains"),
    // Nothing is asked of others, so that nothing changes it.
    ("x", "own.io/free/a:1", "", "enforce allow allow[5]", "it is the most specific rule that matches"),
    ("x", "own.io/free/a:1", "exists=no copies=no tag=none signed=none", "enforce allow allow[5]", ""),
    ("x", "own.io/free/a:1", "exists=? copies=? tag=? signed=?", "enforce allow allow[5]", ""),
    (
        "x",
        "other.io/a:1",
        "exists=yes copies=yes tag=D signed=a",
        "enforce deny default",
        "matches other.io/a",
    ),
    ("x", "own.io/free/v:1.2", "exists=yes", "enforce allow allow[7]", ""),
    ("x", "own.io/free/v:1.2", "exists=no", "enforce deny allow[7]", ""),
    ("x", "own.io/free/v:2", "exists=no", "enforce allow allow[5]", ""),
    ("x", "own.io/free/v:1.3", "exists=yes", "enforce deny deny[1]", ""),
    // By digest alone there is no tag that a rule could be about.
    ("x", "own.io/free/v@D", "exists=no", "enforce allow allow[5]", ""),
    // Modes say what comes of a denial, and change none.
    ("warn-a", "own.io/exists/a:1", "exists=yes", "warn allow allow[0]", ""),
    ("warn-a", "own.io/exists/a:1", "exists=no", "warn deny allow[0]", "no such image"),
    ("warn-a", "own.io/exists/a:1", "exists=?", "warn deny allow[0]", "it rains"),
    ("warn-a", "own.io/exists/bad:1", "exists=yes", "warn deny deny[0]", ""),
    ("warn-a", "own.io/free/a:latest", "", "warn deny forbidTags \"latest\"", ""),
    ("warn-", "other.io/a:1", "", "warn deny default", ""),
    ("warn", "other.io/a:1", "", "enforce deny default", ""),
    ("a-warn-a", "other.io/a:1", "", "enforce deny default", ""),
    ("both", "own.io/free/a:1", "", "warn allow allow[5]", ""),
    ("audit-1", "own.io/free/a:1", "", "audit deny requireDigest", "(namespaces[1] requires it)"),
    ("audit-1", "own.io/free/a:1@D", "", "audit allow allow[5]", ""),
    ("audit-1", "own.io/free/tagged:1", "", "audit allow allow[6]", ""),
    ("audit-1", "own.io/exists/a:1@D", "exists=no", "audit deny allow[0]", ""),
    ("audit-1", "own.io/exists/a:1", "exists=no", "audit deny requireDigest", ""),
    // What an override states replaces what holds elsewhere, and what it does not state holds.
    ("open", "other.io/a", "", "warn allow default", "no rule matches it"),
    ("open", "own.io/exists/bad:1", "exists=yes", "warn allow allow[0]", ""),
    ("open", "own.io/exists/bad:1", "exists=no", "warn deny allow[0]", ""),
    ("open", "own.io/exists/bad", "exists=yes", "warn allow allow[0]", ""),
    ("open", "own.io/all/a:1", "exists=yes", "warn deny requireDigest", ""),
    ("a-strict", "own.io/free/a:1", "", "enforce deny requireDigest", "(namespaces[3] requires it)"),
    (
        "a-strict",
        "own.io/free/a:1-rc2",
        "",
        "enforce deny forbidTags \"*-rc*\"",
        "(namespaces[3] forbids this tag)",
    ),
    ("a-strict", "own.io/free/a:1-rc2@D", "", "enforce deny forbidTags \"*-rc*\"", ""),
    ("a-strict", "own.io/free/a:1rc2@D", "", "enforce allow allow[5]", ""),
    ("a-strict", "own.io/free/tagged:1", "", "enforce allow allow[6]", ""),
    ("a-strict", "own.io/signed/a@D", "signed=b", "enforce allow allow[3]", ""),
    ("warn-a-strict", "own.io/free/a:1", "", "warn allow allow[5]", ""),
    ("own", "own.io/exists/a:1", "", "enforce allow namespaces[4].allow[0]", "the most specific rule"),
    ("own", "own.io/exists/bad:1", "", "enforce deny deny[0]", ""),
    ("own", "own.io/signed/a:1", "signed=b", "enforce allow namespaces[4].allow[1]", ""),
    ("own", "own.io/signed/a:1", "signed=a", "enforce deny namespaces[4].allow[1]", "no signature by b:"),
    ("own", "own.io/free/a:1", "", "enforce deny default", ""),
    ("own", "own.io/exists/a", "", "enforce deny forbidTags \"latest\"", ""),
    ("none", "own.io/free/a:1", "", "enforce deny default", ""),
    ("none", "own.io/exists/bad:1", "", "enforce deny deny[0]", ""),
    ("", "own.io/free/a:1", "", "enforce allow allow[5]", ""),
];

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

fn facts(text: &str) -> Facts {
    fn fact<T>(value: &str, known: impl FnOnce(&str) -> T) -> Fact<T> {
        if value == "?" { Fact::Unknown("it rains".to_owned()) } else { Fact::Known(known(value)) }
    }
    let yes = |value: &str| match value {
        "yes" => true,
        "no" => false,
        other => panic!("{other}"),
    };
    let mut facts = Facts::default();
    for (what, value) in text.split_whitespace().map(|fact| fact.split_once('=').unwrap()) {
        let copies =
            |value: &str| if yes(value) { Copies::Enough } else { Copies::Missing("n2 lacks it".into()) };
        match what {
            "exists" => facts.exists = fact(value, yes),
            "copies" => facts.replicated = fact(value, copies),
            "tag" => facts.digest = fact(value, |value| (value != "none").then(|| digest(value))),
            "signed" => {
                let names = |value: &str| {
                    value.split(',').filter(|name| *name != "none").map(str::to_owned).collect()
                };
                facts.signed_by = fact(value, names);
            }
            other => panic!("{other}"),
        }
    }
    facts
}

fn policy() -> Policy {
    let key = include_str!("../../signature/fixtures/keys/ed25519.pem").replace('\n', "\n    ");
    Policy::parse(&format!("{POLICY}keys:\n  a: |\n    {key}\n  b: |\n    {key}\n")).unwrap()
}

#[test]
fn what_is_known_in_a_namespace_comes_to_what_is_written_beside_it() {
    let policy = policy();
    for (namespace, name, known, expected, why) in ROWS {
        let written = ["D", "E"].into_iter().fold((*name).to_owned(), |name, which| {
            name.replace(&format!("@{which}"), &format!("@{}", digest(which)))
        });
        let decision = policy.decide(&image(&written), namespace, &facts(known));
        let rule = match decision.rule.listed().filter(|_| decision.rule.kind() != "requireDigest") {
            Some(listed) => format!("{}[{}]", listed.list, listed.index),
            None => decision.rule.to_string(),
        };
        let (mode, verdict) = (decision.mode.as_str(), decision.verdict.as_str());
        let row = format!("{name} in {namespace:?} with {known:?}");
        assert_eq!(format!("{mode} {verdict} {rule}"), *expected, "{row}: {}", decision.why);
        assert!(decision.why.contains(why), "{row}: {}", decision.why);
        assert_eq!(decision.runs(), verdict == "allow" || mode != "enforce", "{row}");
    }
}

#[test]
fn only_what_the_rule_that_decides_requires_is_asked_for() {
    let policy = policy();
    for (namespace, name, words) in [
        ("x", "own.io/exists/a:1", &["exists"][..]),
        ("x", "own.io/exists/bad:1", &[]),
        ("x", "own.io/exists/a:latest", &[]),
        ("x", "own.io/tag/a:1", &["resolves"]),
        ("x", "own.io/signed/a:1", &["signed by a or b"]),
        ("own", "own.io/signed/a:1", &["signed by b"]),
        ("own", "own.io/exists/a:1", &[]),
        ("x", "own.io/all/a:1", &[]),
        ("x", "own.io/free/a:1", &[]),
        ("open", "own.io/exists/bad:latest", &["exists"]),
        ("none", "own.io/exists/a:1", &[]),
    ] {
        assert_eq!(policy.needs(&image(name), namespace).words(), words, "{name} in {namespace}");
    }
}
