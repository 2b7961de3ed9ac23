use super::super::{Policy, read};
use super::{STEPS_MAX, Search, WARNINGS_MAX, about};

fn warnings(policy: &str) -> Vec<String> {
    Policy::parse(&format!("version: 1\n{policy}")).unwrap().warnings().to_vec()
}

fn check(policy: &str, expected: &[&str]) {
    let warnings = warnings(policy);
    assert_eq!(warnings.len(), expected.len(), "{policy}: {warnings:#?}");
    for (warning, begin) in warnings.iter().zip(expected) {
        assert!(warning.starts_with(begin), "{warning}: {begin}");
    }
}

#[test]
fn a_rule_that_never_matches_is_told_why() {
    for (pattern, why) in [
        ("nginx", "it names no repository: of docker.io it would be docker.io/library/nginx"),
        ("nginx:1.27", "it names no repository"),
        ("*", "it names no repository"),
        ("library/nginx", "library is no registry: of docker.io it would be docker.io/library/nginx"),
        ("index.docker.io/library/*", "index.docker.io is docker.io here"),
        ("docker.io/nginx", "what docker.io has without an organisation is in docker.io/library/nginx"),
        ("docker.io/*", "what docker.io has without an organisation"),
        ("-a.example/x", "-a.example is no registry"),
        ("quay.io:99999/x", "quay.io:99999 is no registry"),
        ("quay.io/a..b", "a..b is no part of a repository's name"),
        ("quay.io/a:b/c", "a:b is no part of a repository's name"),
        ("quay.io/a:.x", ".x can be no tag"),
    ] {
        check(
            &format!("allow: [{{image: {pattern:?}}}]"),
            &[&format!("allow[0] {pattern:?} never matches: {why}")],
        );
    }
    for good in [
        "**",
        "**:v1",
        "*/a",
        "**/a",
        "*.example.com/**",
        "localhost/a",
        "localhost:5000/a",
        "docker.io/**",
        "docker.io/**/x",
    ] {
        check(&format!("allow: [{{image: {good:?}}}]"), &[]);
    }
}

#[test]
fn a_rule_that_names_the_port_of_https_is_told_to_leave_it_out() {
    check(
        "allow: [{image: quay.io:443/**}]\ndeny: [{image: quay.io:443/a}]",
        &[
            "allow[0] \"quay.io:443/**\" allows nothing: images are judged without the port 443, write quay.io/**",
            "deny[0] \"quay.io:443/a\" denies nothing that is named without the port 443: write quay.io/a, which",
        ],
    );
}

/// A document of as many overrides as rules, each of which is to be looked at beside all of the rules.
fn many(overrides: usize, of_each: &str, rules: &str) -> String {
    let rules: String =
        (0..4_000).map(|n| format!("  - image: {}\n", rules.replace('N', &n.to_string()))).collect();
    let overrides: String = (0..overrides).map(|n| format!("  - {{match: [n{n}], {of_each}}}\n")).collect();
    format!("version: 1\nforbidTags: [latest]\nallow:\n{rules}namespaces:\n{overrides}")
}

#[test]
fn what_is_looked_at_and_said_is_bounded() {
    let searched = |text: &str| {
        let document = read::document(&super::super::root(text).unwrap()).unwrap();
        let mut search = Search::default();
        search.document(&document);
        assert!(search.steps <= STEPS_MAX, "{}", search.steps);
        (search, about(&document))
    };
    for (of_each, rules) in [
        ("allow: [{image: quay.io/a}]", "quay.io/aN"),
        ("deny: [{image: quay.io/a}]", "quay.io/aN"),
        ("forbidTags: [x, y]", "quay.io/aN:1"),
    ] {
        // A few are looked at altogether, and whether or not the many are, they take no more than they may.
        let (search, warnings) = searched(&many(3, of_each, rules));
        assert!(!search.cut && warnings.is_empty(), "{of_each}: {warnings:?}");
        searched(&many(400, of_each, rules));
    }
    let (search, warnings) = searched(&many(400, "deny: [{image: quay.io/a}]", "quay.io/aN"));
    assert!(search.cut && warnings.last().unwrap().contains("too large"), "{warnings:?}");
    let (_, warnings) = searched(&many(400, "deny: [{image: quay.io/a}]", "quay.io/a"));
    assert_eq!(warnings.len(), WARNINGS_MAX + 1);
    searched(&many(3_000, "mode: warn", "quay.io/aN"));
}

#[test]
fn rules_that_others_make_useless_are_named() {
    check(
        "allow: [{image: quay.io/a}, {image: quay.io/b}, {image: quay.io/b}]\ndeny: [{image: quay.io/a}]",
        &[
            "allow[0] \"quay.io/a\" has no effect: deny[0] \"quay.io/a\" denies the same, which wins",
            "allow[2] \"quay.io/b\" has no effect: allow[1] \"quay.io/b\" comes first",
        ],
    );
    check(
        "forbidTags: [\"*latest*\"]\nallow: [{image: \"quay.io/a:latest\"}, {image: \"quay.io/a:late*\"}]",
        &["allow[0] \"quay.io/a:latest\" allows nothing: forbidTags \"*latest*\" forbids its tag"],
    );
    check("default: deny", &["no image is allowed"]);
    check("default: allow", &[]);
}

#[test]
fn overrides_that_are_never_used_are_named() {
    check(
        "default: allow\nnamespaces:\n  - {match: [dev-*], mode: warn}\n  - {match: [dev-a, dev-b*], mode: audit}\n  \
         - {match: [dev-a, prod], mode: audit}\n  - {match: [prod, dev-*], mode: warn}\n  - {match: [], mode: warn}\n  \
         - {match: [x]}",
        &[
            "namespaces[1] is never used: namespaces[0]",
            "namespaces[3] is never used: namespaces[2]",
            "namespaces[4] is never used: it matches no namespace",
            "namespaces[5] states nothing",
        ],
    );
    check(
        "default: allow\ndeny: [{image: quay.io/a}]\nnamespaces:\n  - match: [x]\n    allow: [{image: quay.io/a}]",
        &["namespaces[0].allow[0] \"quay.io/a\" has no effect: deny[0] \"quay.io/a\" denies the same"],
    );
}

#[test]
fn a_key_that_no_rule_names_is_named() {
    let key = include_str!("../../signature/fixtures/keys/ecdsa-p256.pem").replace('\n', "\n    ");
    let keys = format!("keys:\n  used: |\n    {key}\n  left: |\n    {key}\n");
    check(
        &format!("allow: [{{image: quay.io/**, signedBy: [used]}}]\n{keys}"),
        &["keys.left is not used: no rule names it in signedBy"],
    );
}
