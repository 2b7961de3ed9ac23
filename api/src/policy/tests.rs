use super::*;

const CONTRACT: &str = "\
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
    let policy = Policy::parse(CONTRACT).unwrap();
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
    let policy = Policy::parse(CONTRACT).unwrap();
    let ours = image("trow.example.com/a:1");
    let needs = policy.needs(&ours, "default");
    assert_eq!(needs, Needs { exists: true, replicated: true, ..Needs::default() });
    let known = Facts { exists: Fact::Known(true), replicated: Fact::Known(true), ..Facts::default() };
    assert_eq!(policy.decide(&ours, "default", &known).verdict, Verdict::Allow);
    for (facts, why) in [
        (Facts::default(), "not looked up"),
        (Facts { exists: Fact::Known(false), ..known.clone() }, "no such image"),
        (Facts { replicated: Fact::Known(false), ..known.clone() }, "not on all its nodes"),
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
