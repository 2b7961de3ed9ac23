//! Random policies and images, judged by the model.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::super::{Facts, Policy, Rule, Verdict};
use super::model::Model;

fn text(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(of).prop_map(str::to_owned)
}

fn pattern() -> impl Strategy<Value = String> {
    let host = text(&["a.io", "b.io", "*.io", "a*", "*", "**", "a.io:5000"]);
    let segment = text(&["a", "b", "ab", "a*", "*b", "*", "**", "a*b", "*a*"]);
    let tag = text(&["", "", "", ":v1", ":v*", ":*1", ":*", ":latest"]);
    let path = prop::collection::vec(segment, 0..4)
        .prop_map(|path| path.iter().map(|one| format!("/{one}")).collect::<String>());
    (host, path, tag).prop_map(|(host, path, tag)| format!("{host}{path}{tag}"))
}

fn model() -> impl Strategy<Value = Model> {
    let rule = (any::<bool>(), pattern(), prop::option::of(any::<bool>()));
    let rules = prop::collection::vec(rule, 0..12);
    let forbidden = subsequence(vec!["latest".to_owned(), "v*".to_owned(), "*2".to_owned()], 0..=3);
    (rules, any::<bool>(), forbidden, any::<bool>()).prop_map(
        |(rules, default_allows, forbidden, require_digest)| Model {
            rules,
            default_allows,
            forbidden,
            require_digest,
        },
    )
}

fn image() -> impl Strategy<Value = (String, Option<String>, bool)> {
    let host = text(&["a.io", "b.io", "ab.io", "a.io:5000"]);
    let path = prop::collection::vec(text(&["a", "b", "ab", "ba", "aab"]), 1..5);
    let tag = prop::option::of(text(&["v1", "v2", "1", "latest"]));
    (host, path, tag, any::<bool>()).prop_map(|(host, path, tag, digest)| {
        let tag = if digest { tag } else { Some(tag.unwrap_or_else(|| "latest".to_owned())) };
        (format!("{host}/{}", path.join("/")), tag, digest)
    })
}

/// The policy as it is written; of each list in order.
fn yaml(model: &Model) -> String {
    let mut text = format!(
        "version: 1\ndefault: {}\nforbidTags: {:?}\nrequireDigest: {}\n",
        if model.default_allows { "allow" } else { "deny" },
        model.forbidden,
        model.require_digest
    );
    for (list, denies) in [("allow", false), ("deny", true)] {
        text.push_str(&format!("{list}:\n"));
        for (_, pattern, digest) in model.rules.iter().filter(|rule| rule.0 == denies) {
            text.push_str(&format!("  - image: {pattern:?}\n"));
            if let (Some(digest), false) = (digest, denies) {
                text.push_str(&format!("    requireDigest: {digest}\n"));
            }
        }
    }
    text
}

/// Which of the model's rules the rule of a list is.
fn numbered(model: &Model, rule: &Rule) -> Result<usize, &'static str> {
    let denies = matches!(rule, Rule::Deny(_));
    let (Rule::Allow(listed) | Rule::Deny(listed)) = rule else { return Err(rule.kind()) };
    let of_list = (0..model.rules.len()).filter(|at| model.rules[*at].0 == denies);
    let at = of_list.clone().nth(listed.index).unwrap();
    assert_eq!(model.rules[at].1, *listed.pattern);
    Ok(at)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_decided_is_what_looking_at_every_rule_decides(
        model in model(), images in prop::collection::vec(image(), 1..8),
    ) {
        let policy = Policy::parse(&yaml(&model)).unwrap();
        for (name, tag, digest) in images {
            let tagged = tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
            let digested = if digest { format!("@sha256:{}", "0a".repeat(32)) } else { String::new() };
            let image = format!("{name}{tagged}{digested}").parse().unwrap();
            let decision = policy.decide(&image, "default", &Facts::default());
            let (allowed, by) = model.decide((&name, tag.as_deref(), digest));
            prop_assert_eq!(decision.verdict == Verdict::Allow, allowed, "{}: {:?}", image, decision);
            prop_assert_eq!(numbered(&model, &decision.rule), by, "{}: {:?}", image, decision);
        }
    }
}
