//! Random policies, images and facts, judged by the model.

use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};
use trow_raft::Digest;

use super::super::{Copies, Fact, Facts, Policy, Verdict};
use super::model;

/// A rule, its pattern in pieces; one of `deny` has a pattern alone.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    pub path: Vec<&'static str>,
    pub tag: &'static str,
    pub digest: Option<bool>,
    pub require: Vec<&'static str>,
    pub signed_by: Vec<&'static str>,
}

/// What is stated for all namespaces, or by an override; of the lists the first allows.
#[derive(Clone, Debug)]
pub struct Part {
    pub mode: Option<&'static str>,
    pub allows: Option<bool>,
    pub forbidden: Option<Vec<&'static str>>,
    pub digest: Option<bool>,
    pub lists: [Option<Vec<Rule>>; 2],
}

/// A policy; the overrides with the namespaces that they are for.
#[derive(Clone, Debug)]
pub struct Model {
    pub top: Part,
    pub overrides: Vec<(Vec<&'static str>, Part)>,
}

/// An image: host and path, the tag, and which digest is written.
#[derive(Clone, Debug)]
pub struct Image {
    pub name: Vec<&'static str>,
    pub tag: Option<&'static str>,
    pub digest: Option<u8>,
}

/// What is known; nothing of what nobody asked or could find out. Of the tag: which digest, if it is there.
#[derive(Clone, Debug)]
pub struct Known {
    pub exists: Option<bool>,
    pub copies: Option<bool>,
    pub tag: Option<Option<u8>>,
    pub signers: Option<Vec<&'static str>>,
}

impl Rule {
    pub fn pattern(&self) -> String {
        let mark = if self.tag.is_empty() { "" } else { ":" };
        format!("{}{mark}{}", self.path.join("/"), self.tag)
    }
}

const MODES: &[&str] = &["enforce", "warn", "audit"];
const NAMESPACES: &[&str] = &["dev-a", "dev-b", "test", "prod", "a", ""];
const KEYS: [&str; 3] = ["a", "b", "c"];

fn some(of: &[&'static str]) -> impl Strategy<Value = Vec<&'static str>> + use<> {
    let all = of.to_vec();
    let length = all.len();
    subsequence(all, 0..=length)
}

fn pattern() -> impl Strategy<Value = (Vec<&'static str>, &'static str)> {
    // Few of each, so that many match the same image, and two are often as specific as each other.
    let hosts = ["a.io", "a.io", "a.io", "a.io", "b.io", "*.io", "a*", "*", "**", "a.io:5000"];
    let host = select(hosts.to_vec());
    let segment = select(vec!["a", "ab", "a*", "*b", "*", "**", "a*b", "*a*", "*a*b"]);
    let tag = select(vec!["", "", "", "", "v1", "v*", "*1", "*", "latest"]);
    let path = (host, prop::collection::vec(segment, 0..4));
    (path.prop_map(|(host, path)| [vec![host], path].concat()), tag)
}

fn rules(denies: bool) -> impl Strategy<Value = Vec<Rule>> {
    let plain = || Just(Vec::new()).boxed();
    let require = prop_oneof![plain(), some(&["exists", "replicated", "resolves"]).boxed()];
    let signed_by = prop_oneof![plain(), plain(), some(&KEYS).boxed()];
    let rule = (pattern(), option::of(any::<bool>()), require, signed_by).prop_map(
        move |((path, tag), digest, require, signed_by)| match denies {
            true => Rule { path, tag, ..Rule::default() },
            false => Rule { path, tag, digest, require, signed_by },
        },
    );
    prop::collection::vec(rule, 0..7)
}

fn part(lists: f64) -> impl Strategy<Value = Part> {
    let lists = (option::weighted(lists, rules(false)), option::weighted(lists, rules(true)));
    let (mode, forbidden) = (option::of(select(MODES)), option::of(some(&["latest", "v*", "*2"])));
    (mode, option::of(any::<bool>()), forbidden, option::of(any::<bool>()), lists).prop_map(
        |(mode, allows, forbidden, digest, (allow, deny))| Part {
            mode,
            allows,
            forbidden,
            digest,
            lists: [allow, deny],
        },
    )
}

fn model() -> impl Strategy<Value = Model> {
    let names = subsequence(vec!["dev-*", "*-a", "test", "a"], 1..=2);
    (part(0.9), prop::collection::vec((names, part(0.4)), 0..4))
        .prop_map(|(top, overrides)| Model { top, overrides })
}

fn image() -> impl Strategy<Value = Image> {
    let host = select(vec!["a.io", "a.io", "a.io", "b.io", "ab.io", "a.io:5000"]);
    let path = prop::collection::vec(select(vec!["a", "ab", "ba", "aab"]), 1..4);
    let tag = option::of(select(vec!["v1", "v2", "1", "latest"]));
    (host, path, tag, option::of(0..3u8)).prop_map(|(host, path, tag, digest)| {
        let tag = tag.or((digest.is_none()).then_some("latest"));
        Image { name: [vec![host], path].concat(), tag, digest }
    })
}

fn known() -> impl Strategy<Value = Known> {
    // Mostly what lets an image through, since one fact that is missing hides all others.
    let (exists, copies) = (option::weighted(0.8, any::<bool>()), option::weighted(0.8, any::<bool>()));
    let tag = option::weighted(0.8, option::weighted(0.8, 0..3u8));
    (exists, copies, tag, option::weighted(0.8, some(&KEYS)))
        .prop_map(|(exists, copies, tag, signers)| Known { exists, copies, tag, signers })
}

fn digest(which: u8) -> Digest {
    Digest::sha256(&[which])
}

/// The facts; what is not known was not asked, or could not be found out.
fn facts(known: &Known, asked: bool) -> Facts {
    fn fact<K, T>(known: &Option<K>, asked: bool, is: impl FnOnce(&K) -> T) -> Fact<T> {
        match known {
            Some(known) => Fact::Known(is(known)),
            None if asked => Fact::Unknown("nobody knows".to_owned()),
            None => Fact::NotAsked,
        }
    }
    let copies = |enough: &bool| if *enough { Copies::Enough } else { Copies::Missing("n2 lacks it".into()) };
    Facts {
        exists: fact(&known.exists, asked, |exists| *exists),
        replicated: fact(&known.copies, asked, copies),
        digest: fact(&known.tag, asked, |tag| tag.map(digest)),
        signed_by: fact(&known.signers, asked, |names| names.iter().map(|name| (*name).to_owned()).collect()),
    }
}

/// What a part states, as it is written.
fn written(part: &Part) -> Map<String, Value> {
    let rule = |rule: &Rule| {
        let mut written = json!({ "image": rule.pattern() });
        if let Some(digest) = rule.digest {
            written["requireDigest"] = digest.into();
        }
        for (field, named) in [("require", &rule.require), ("signedBy", &rule.signed_by)] {
            if !named.is_empty() {
                written[field] = json!(named);
            }
        }
        written
    };
    let list = |rules: &Vec<Rule>| rules.iter().map(rule).collect::<Value>();
    let stated = [
        ("mode", part.mode.map(Value::from)),
        ("default", part.allows.map(|allows| Value::from(if allows { "allow" } else { "deny" }))),
        ("forbidTags", part.forbidden.as_ref().map(|tags| json!(tags))),
        ("requireDigest", part.digest.map(Value::from)),
        ("allow", part.lists[0].as_ref().map(list)),
        ("deny", part.lists[1].as_ref().map(list)),
    ];
    stated.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))).collect()
}

fn policy(model: &Model) -> Policy {
    let mut document = written(&model.top);
    document.insert("version".to_owned(), 1.into());
    let key = include_str!("../../signature/fixtures/keys/ed25519.pem");
    document.insert(
        "keys".to_owned(),
        KEYS.into_iter().map(|name| (name.to_owned(), Value::from(key))).collect(),
    );
    let over = model.overrides.iter().map(|(names, part)| {
        let mut over = written(part);
        over.insert("match".to_owned(), json!(names));
        Value::Object(over)
    });
    document.insert("namespaces".to_owned(), over.collect());
    let text = Value::Object(document).to_string();
    Policy::parse(&text).unwrap_or_else(|invalid| panic!("{text}: {invalid:?}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_decided_is_what_looking_at_every_rule_decides(
        model in model(),
        images in prop::collection::vec((image(), select(NAMESPACES), known(), any::<bool>()), 1..12),
    ) {
        let policy = policy(&model);
        for (image, namespace, known, asked) in images {
            let tag = image.tag.map(|tag| format!(":{tag}")).unwrap_or_default();
            let written = image.digest.map(|which| format!("@{}", digest(which))).unwrap_or_default();
            let name = format!("{}{tag}{written}", image.name.join("/")).parse().unwrap();
            let facts = facts(&known, asked);
            let decision = policy.decide(&name, namespace, &facts);
            let (mode, allowed, by) = model::decide(&model, namespace, &image, &known);
            let decided = (decision.mode.as_str(), decision.verdict == Verdict::Allow, decision.rule.to_string());
            prop_assert_eq!(decided, (mode, allowed, by), "{} in {:?}: {:?}", name, namespace, decision);
            prop_assert_eq!(decision.runs(), allowed || mode != "enforce");

            // By the name alone all that is required is so, and it is named.
            let (by_name, needs) = policy.decide_by_name(&name, namespace);
            let all = Known {
                exists: Some(true),
                copies: Some(true),
                tag: Some(Some(image.digest.unwrap_or(0))),
                signers: Some(KEYS.to_vec()),
            };
            let (_, granted, by) = model::decide(&model, namespace, &image, &all);
            let decided = (by_name.verdict == Verdict::Allow, by_name.rule.to_string());
            prop_assert_eq!(decided, (granted, by), "{} in {:?}", name, namespace);
            prop_assert_eq!(&needs, &policy.needs(&name, namespace));
            if needs.is_empty() {
                prop_assert_eq!(decision, by_name, "no fact changes it");
            }
        }
    }
}
