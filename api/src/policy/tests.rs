use trow_raft::Digest;

use super::*;

mod facts;
mod model;
mod random;
mod table;

const EXAMPLE: &str = "\
version: 1
mode: enforce
default: deny
forbidTags: [latest]
requireDigest: false
allow:
  - image: registry.k8s.io/**
  - image: docker.io/library/*
    requireDigest: true
  - image: trow.example.com/**
    require: [exists, replicated]
deny:
  - image: docker.io/library/old-*
namespaces:
  - match: [dev-*]
    mode: warn
mutate:
  tagToDigest: false
  mirror: \"\"
";

fn image(text: &str) -> ImageName {
    text.parse().unwrap()
}

#[test]
fn a_denial_says_which_image_which_rule_and_what_to_do() {
    let policy = Policy::parse(EXAMPLE).unwrap();
    let decision = policy.decide(&image("old-x:1"), "default", &Facts::default());
    let sentence = decision.sentence(Some("web"));
    let begin = "image \"docker.io/library/old-x:1\" (container \"web\") denied by deny[0] \"docker.io/library/old-*\": ";
    assert!(sentence.starts_with(begin) && sentence.len() > begin.len(), "{sentence}");
    assert!(!decision.runs());
    let warned = policy.decide(&image("old-x:1"), "dev-1", &Facts::default());
    assert!(warned.runs() && warned.sentence(None).contains("would be denied by deny[0]"), "{warned:?}");
}

#[test]
fn what_is_needed_and_not_known_denies() {
    let policy = Policy::parse(EXAMPLE).unwrap();
    let ours = image("trow.example.com/a:1");
    let needs = policy.needs(&ours, "default");
    assert_eq!(needs, Needs { exists: true, replicated: true, ..Needs::default() });
    let known =
        Facts { exists: Fact::Known(true), replicated: Fact::Known(Copies::Enough), ..Facts::default() };
    assert_eq!(policy.decide(&ours, "default", &known).verdict, Verdict::Allow);
    for (facts, why) in [
        (Facts::default(), "not looked up"),
        (Facts { exists: Fact::Known(false), ..known.clone() }, "no such image"),
        (
            Facts { replicated: Fact::Known(Copies::Missing("n2 lacks it".into())), ..known.clone() },
            "n2 lacks it",
        ),
        (Facts { replicated: Fact::Unknown("the moon is full".into()), ..known }, "the moon is full"),
    ] {
        let decision = policy.decide(&ours, "default", &facts);
        assert_eq!(decision.verdict, Verdict::Deny);
        assert!(decision.why.contains(why), "{}", decision.why);
        assert_eq!(decision.rule.to_string(), "allow[2] \"trow.example.com/**\"");
    }
}

#[test]
fn before_a_policy_is_set_everything_is_allowed() {
    let policy = Policy::allow_all();
    let decision = policy.decide(&image("nginx"), "default", &Facts::default());
    assert_eq!((decision.verdict, &decision.rule), (Verdict::Allow, &Rule::NotSet));
    let unreadable = policy.decide_unreadable(&"NGINX".parse::<ImageName>().unwrap_err(), "default");
    assert_eq!((unreadable.verdict, &unreadable.rule), (Verdict::Allow, &Rule::NotSet));
}

#[test]
fn all_that_is_wrong_is_named_with_where_it_is() {
    let text = "\
version: 2
mode: strict
default: Deny
forbidTag: [latest]
requireDigest: yes
allow:
  - image: quay.io/a**
    signedBy: [nobody]
  - image: 7
    require: [exist, exists]
  - {}
  - just-text
deny:
  image: x
deny: []
keys:
  broken: |
    -----BEGIN PUBLIC KEY-----
namespaces:
  - mode: warn
  - match: [Dev]
    mutate: {}
mutate:
  mirror: https://x
";
    let invalid = Policy::parse(text).unwrap_err();
    let named: Vec<(&str, u64, u64)> =
        invalid.iter().map(|wrong| (wrong.field.as_str(), wrong.line, wrong.column)).collect();
    assert_eq!(
        named,
        [
            ("version", 1, 10),
            ("mode", 2, 7),
            ("default", 3, 10),
            ("forbidTag", 4, 1),
            ("requireDigest", 5, 16),
            ("allow[0].image", 7, 12),
            ("allow[0].signedBy[0]", 8, 16),
            ("allow[1].image", 9, 12),
            ("allow[1].require[0]", 10, 15),
            ("allow[2].image", 11, 5),
            ("allow[3]", 12, 5),
            ("deny", 14, 3),
            ("deny", 15, 1),
            ("keys.broken", 18, 5),
            ("namespaces[0].match", 20, 5),
            ("namespaces[1].match[0]", 21, 13),
            ("namespaces[1].mutate", 22, 5),
            ("mutate.mirror", 24, 11),
        ],
        "{invalid:#?}"
    );
    assert_eq!(
        invalid[3].to_string(),
        "line 4, column 1: forbidTag: there is no such field; there are version, mode, \
        default, forbidTags, requireDigest, allow, deny, keys, namespaces, mutate"
    );
    assert!(invalid[8].why.contains("exists, replicated, resolves"), "{}", invalid[8]);
    for (text, why) in [
        ("", "nothing where fields are expected"),
        ("[]", "a list where fields are expected"),
        ("default: deny", "is missing: write version: 1"),
        ("version: 1\nforbidTags: [1.10]", "put it in quotes"),
        ("version: 1\n  mode: x", "line 2"),
        ("version: 1\nallow: [{image: a/b, digest: x}]", "there are image, requireDigest, require, signedBy"),
        ("version: 1\ndeny: [{image: a/b, require: [exists]}]", "there are image"),
    ] {
        let invalid = Policy::parse(text).unwrap_err();
        assert!(invalid[0].to_string().contains(why), "{text}: {}", invalid[0]);
    }
    assert!(Policy::parse(&format!("version: 1\n#{}", "x".repeat(LENGTH_MAX))).is_err());
    let many = format!("version: 1\nallow: [{}]", "7,".repeat(5000));
    assert!(Policy::parse(&many).unwrap_err().len() <= 100);
}

#[test]
fn json_is_read_too_and_an_alias_says_what_it_stands_for() {
    let json = "{\"version\": 1, \"default\": \"deny\",\n\t\"allow\": [{\"image\": \"quay.io/**\"}]}";
    let yaml =
        "version: 1\nallow: &these\n  - image: quay.io/**\nnamespaces:\n  - match: [x]\n    allow: *these\n";
    for text in [json, yaml] {
        let policy = Policy::parse(text).unwrap_or_else(|invalid| panic!("{invalid:?}"));
        let decision = policy.decide(&image("quay.io/a:1"), "x", &Facts::default());
        assert_eq!(decision.verdict, Verdict::Allow, "{text}");
    }
}

#[test]
fn what_an_override_states_replaces_what_holds_elsewhere() {
    let policy = Policy::parse(
        "version: 1\nforbidTags: [latest]\nrequireDigest: true\nallow: [{image: quay.io/**}]\ndeny: [{image: quay.io/bad}]\n\
         namespaces:\n  - {match: [dev-*, test], mode: warn, requireDigest: false}\n  - {match: [dev-a], default: allow}\n  \
         - match: [free]\n    default: allow\n    deny: []\n    forbidTags: []\n    requireDigest: false\n  \
         - match: [own]\n    allow: [{image: ghcr.io/own/*}]\n",
    )
    .unwrap();
    let decided = |text: &str, namespace: &str| {
        let decision = policy.decide(&image(text), namespace, &Facts::default());
        format!("{} {} {}", decision.mode.as_str(), decision.verdict.as_str(), decision.rule)
    };
    for (text, namespace, expected) in [
        ("quay.io/a:1", "default", "enforce deny requireDigest"),
        ("quay.io/a:1", "dev-x", "warn allow allow[0] \"quay.io/**\""),
        ("quay.io/a:1", "test", "warn allow allow[0] \"quay.io/**\""),
        ("quay.io/a:1", "testing", "enforce deny requireDigest"),
        ("quay.io/a", "dev-x", "warn deny forbidTags \"latest\""),
        ("ghcr.io/x:1", "dev-a", "warn deny default"),
        ("quay.io/bad", "free", "enforce allow allow[0] \"quay.io/**\""),
        ("ghcr.io/x", "free", "enforce allow default"),
        ("quay.io/a:1", "own", "enforce deny default"),
        ("ghcr.io/own/a:1", "own", "enforce deny requireDigest"),
        ("quay.io/bad:1", "own", "enforce deny deny[0] \"quay.io/bad\""),
        ("ghcr.io/x:1", "", "enforce deny default"),
    ] {
        assert_eq!(decided(text, namespace), expected, "{text} in {namespace}");
    }
    let own = policy.decide(&image("ghcr.io/own/a:latest"), "own", &Facts::default());
    assert_eq!(own.rule, Rule::ForbidTags("latest".into()));
}

#[test]
fn a_signature_by_any_of_the_keys_is_enough_and_a_tag_must_stand_for_the_digest_beside_it() {
    let key = include_str!("../signature/fixtures/keys/ed25519.pem").replace('\n', "\n    ");
    let policy = Policy::parse(&format!(
        "version: 1\nallow:\n  - image: quay.io/**\n    signedBy: [a, b]\n  - image: ghcr.io/**\n    require: [resolves]\n\
         keys:\n  a: |\n    {key}\n  b: |\n    {key}\n"
    ))
    .unwrap();
    assert_eq!(policy.keys().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
    let signed = |by: &[&str]| Fact::Known(by.iter().map(|name| (*name).to_owned()).collect());
    for (by, allowed) in
        [(signed(&["b"]), true), (signed(&["c"]), false), (signed(&[]), false), (Fact::NotAsked, false)]
    {
        let facts = Facts { signed_by: by, ..Facts::default() };
        let decision = policy.decide(&image("quay.io/a:1"), "default", &facts);
        assert_eq!(decision.verdict == Verdict::Allow, allowed, "{}", decision.sentence(None));
    }
    let (one, other) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
    for (text, resolved, allowed) in [
        ("ghcr.io/a:1".to_owned(), Fact::Known(Some(one)), true),
        ("ghcr.io/a:1".to_owned(), Fact::Known(None), false),
        (format!("ghcr.io/a:1@{one}"), Fact::Known(Some(one)), true),
        (format!("ghcr.io/a:1@{one}"), Fact::Known(Some(other)), false),
        (format!("ghcr.io/a@{one}"), Fact::NotAsked, true),
        ("ghcr.io/a:1".to_owned(), Fact::Unknown("no".to_owned()), false),
    ] {
        let facts = Facts { digest: resolved, ..Facts::default() };
        let decision = policy.decide(&image(&text), "default", &facts);
        assert_eq!(decision.verdict == Verdict::Allow, allowed, "{}", decision.sentence(None));
    }
    let (by_name, needs) = policy.decide_by_name(&image("quay.io/a:1"), "default");
    assert_eq!((by_name.verdict, needs.words()), (Verdict::Allow, vec!["signed by a or b".to_owned()]));
}

#[test]
fn what_looks_as_if_it_asked_for_something_asks_for_it() {
    for empty in ["[]", "", "null"] {
        let text =
            format!("version: 1\nallow:\n  - image: a.io/b\n    signedBy: {empty}\n    require: {empty}\n");
        let invalid: Vec<String> =
            Policy::parse(&text).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(invalid.len(), 2, "{invalid:?}");
        let signed = "allow[0].signedBy: names no key: name one, or leave the field out";
        assert!(invalid[0].starts_with("line 4, ") && invalid[0].ends_with(signed), "{invalid:?}");
        let required =
            "allow[0].require: requires nothing: name any of exists, replicated, resolves, or leave";
        assert!(invalid[1].starts_with("line 5, ") && invalid[1].contains(required), "{invalid:?}");
    }
}

#[test]
fn who_requires_a_digest_and_who_forbids_a_tag_is_said() {
    let policy = Policy::parse(
        "version: 1\ndefault: allow\nforbidTags: [latest]\nallow: [{image: a.io/*, requireDigest: true}]\n\
         namespaces:\n  - {match: [x], mode: warn}\n  - {match: [n], requireDigest: true, forbidTags: [old]}\n",
    );
    let policy = policy.unwrap();
    for (name, namespace, why, listed) in [
        ("a.io/b:1", "default", "a.io/b:1@sha256:<digest> (allow[0] \"a.io/*\" requires it)", Some("a.io/*")),
        ("a.io/b:1", "n", "a.io/b:1@sha256:<digest> (allow[0] \"a.io/*\" requires it)", Some("a.io/*")),
        ("b.io/b:1", "n", "b.io/b:1@sha256:<digest> (namespaces[1] requires it)", None),
        ("b.io/b:old", "n", "b.io/b@sha256:<digest> (namespaces[1] forbids this tag)", None),
        ("b.io/b", "x", "b.io/b@sha256:<digest>", None),
    ] {
        let decision = policy.decide(&image(name), namespace, &Facts::default());
        assert!(decision.why.ends_with(why), "{name}: {}", decision.why);
        assert_eq!(decision.rule.listed().map(|listed| &*listed.pattern), listed, "{name}");
        let rule = decision.rule.to_string();
        assert!(["requireDigest", "forbidTags \"old\"", "forbidTags \"latest\""].contains(&&*rule), "{rule}");
    }
    let top = Policy::parse("version: 1\ndefault: allow\nrequireDigest: true\n").unwrap();
    let decision = top.decide(&image("a.io/b:1"), "x", &Facts::default());
    assert!(decision.why.ends_with("a.io/b:1@sha256:<digest>"), "{}", decision.why);
    assert_eq!(decision.rule, Rule::RequireDigest(None));
}

/// However many overrides a policy has, no rule is kept more often than it is written.
#[test]
fn rules_are_kept_once_for_all_namespaces() {
    let rules = |list: &str, of: &str, count: usize| {
        let rules: String = (0..count).map(|n| format!("  - image: {of}/{n}\n")).collect();
        format!("{list}:\n{rules}")
    };
    let overrides: String = (0..400)
        .map(|n| match n % 3 {
            0 => format!("  - {{match: [n{n}], allow: [{{image: a.io/x}}]}}\n"),
            1 => format!("  - {{match: [n{n}], deny: [{{image: a.io/1}}]}}\n"),
            _ => format!("  - {{match: [n{n}], mode: warn}}\n"),
        })
        .collect();
    let (allow, deny) = (rules("allow", "a.io", 3_000), rules("deny", "b.io", 1_000));
    let policy = Policy::parse(&format!("version: 1\n{allow}{deny}namespaces:\n{overrides}")).unwrap();
    let scopes = || std::iter::once(&policy.top).chain(&policy.overrides);
    let lists = || scopes().flat_map(|scope| [&scope.allow, &scope.deny]);
    assert_eq!(lists().count(), 2 * 401);
    let kept: std::collections::HashMap<_, usize> =
        lists().map(|rules| (Arc::as_ptr(rules), rules.len())).collect();
    assert_eq!(kept.values().sum::<usize>(), 3_000 + 1_000 + 134 + 133);
    for (name, namespace, rule) in [
        ("a.io/1:1", "n2", "allow[1] \"a.io/1\""),
        ("b.io/1:1", "n0", "deny[1] \"b.io/1\""),
        ("a.io/1:1", "n0", "default"),
        ("a.io/1:1", "n1", "namespaces[1].deny[0] \"a.io/1\""),
        ("b.io/1:1", "n1", "default"),
    ] {
        let decision = policy.decide(&image(name), namespace, &Facts::default());
        assert_eq!(decision.rule.to_string(), rule, "{name} in {namespace}");
    }
}

/// The examples of the guide are policies, or what Trow before version 1 had.
#[test]
fn every_policy_of_the_guide_can_be_set() {
    let guide = include_str!("../../../docs/policy.md");
    let examples: Vec<&str> =
        guide.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 5, "{}", examples.len());
    for example in examples {
        let policy = Policy::parse(example).unwrap_or_else(|invalid| panic!("{example}\n{invalid:#?}"));
        assert_eq!(policy.warnings(), [] as [String; 0], "{example}");
    }
}

/// What the guide says of patterns is so.
#[test]
fn every_pattern_of_the_guide_matches_what_is_written_beside_it() {
    let guide = include_str!("../../../docs/policy.md");
    let section = guide.split("## Patterns").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let digest = Digest::sha256(b"").to_string();
    let mut rows = 0;
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = row.split(" | ").map(|cell| cell.split('`').skip(1).step_by(2).collect::<Vec<_>>());
        let pattern = cells.next().unwrap()[0];
        let policy = Policy::parse(&format!("version: 1\nallow: [{{image: {pattern:?}}}]")).unwrap();
        for (names, verdict) in cells.zip([Verdict::Allow, Verdict::Deny]) {
            for name in names {
                let image = image(&name.replace("sha256:…", &digest));
                assert_eq!(
                    policy.decide(&image, "x", &Facts::default()).verdict,
                    verdict,
                    "{pattern} {name}"
                );
            }
        }
        rows += 1;
    }
    assert!(rows >= 6, "{rows}");
}
