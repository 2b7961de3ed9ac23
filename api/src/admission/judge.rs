//! One decision for each image of a review.
//!
//! Always holds: an image is judged by what it stands for; a name that escapes a rule only by its spelling is denied
//! by that rule, and one of ours is held to what a rule requires under any of our names; what rules require is found
//! out for all images at once, within one deadline. Never does: answer a review.

use futures::{StreamExt, stream};
use tokio::time::Instant;
use trow_raft::StateError;

use super::facts::{Of, Sources};
use super::gate::Standing;
use super::images::Named;
use super::names::{Meant, Names, Whose};
use crate::policy::{Decision, Facts, Needs, Policy, Rule, Verdict};
use crate::pull::{ImageName, InvalidImage};
use crate::signature::Purpose;

/// Images of a review whose facts are found out at the same time.
pub(super) const AT_ONCE: usize = 8;

/// What decisions are made from.
pub(super) struct Judge {
    pub(super) names: Names,
    pub(super) sources: Sources,
}

/// Where a decision is made.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) standing: &'a Standing,
    pub(super) namespace: &'a str,
    /// Names of this registry that the settings do not have.
    pub(super) others: &'a [String],
    pub(super) purpose: Purpose,
    pub(super) deadline: Instant,
}

impl Judge {
    /// Decides about every image, in the order given.
    pub(super) async fn decide(&self, case: Case<'_>, images: &[Named]) -> Vec<Decision> {
        // One is made when there is room for it, and not all at the beginning; by its place, since the compiler does
        // not take a closure over references here.
        let decisions = (0..images.len()).map(|at| self.one(case, &images[at].image));
        stream::iter(decisions).buffered(AT_ONCE).collect().await
    }

    async fn one(&self, case: Case<'_>, text: &str) -> Decision {
        let Case { standing, namespace, others, purpose, deadline } = case;
        let policy = &*standing.policy;
        let (written, meant) = match self.meant(text, others) {
            Ok(read) => read,
            Err(invalid) => return policy.decide_unreadable(&invalid, namespace),
        };
        let (decision, required) = by_names(policy, namespace, &meant);
        // Names with the same needs have the same facts, since they have the same content.
        let mut found: Option<(&Needs, Facts)> = None;
        for (name, needs) in &required {
            let facts = match found.take().filter(|(of, _)| *of == needs) {
                Some((_, facts)) => facts,
                None => {
                    let of = Of { image: &meant.judged, whose: &meant.whose };
                    self.sources.find(purpose, of, standing, needs, deadline).await
                }
            };
            let judged = policy.decide(name, namespace, &facts);
            if judged.verdict == Verdict::Deny {
                return as_written(judged, &written);
            }
            found = Some((needs, facts));
        }
        as_written(decision, &written)
    }

    /// Whether the name alone lets the image run, so that it is worth being looked up.
    pub(super) fn may_run(&self, case: Case<'_>, meant: &Meant) -> bool {
        let (decision, _) = by_names(&case.standing.policy, case.namespace, meant);
        // A digest is what a mutation brings.
        decision.verdict == Verdict::Allow || matches!(decision.rule, Rule::RequireDigest(_))
    }

    /// An image as it is written, and what it stands for.
    pub(super) fn meant(&self, text: &str, others: &[String]) -> Result<(ImageName, Meant), InvalidImage> {
        let name: ImageName = text.parse()?;
        let meant = self.names.meant(&name, others).map_err(|why| InvalidImage::new(text, why))?;
        Ok((name, meant))
    }

    /// Under which names, besides those of the settings, this registry may be called: where its members say that
    /// clients find them, and the mirror of the policy.
    pub(super) fn others(&self, policy: &Policy) -> Result<Vec<String>, StateError> {
        let mirror = policy.mutate().mirror.iter().map(ToString::to_string);
        let members = self.sources.metadata.local().members()?;
        let addresses = members.into_iter().map(|member| member.client).filter(|at| !at.is_empty());
        Ok(mirror.chain(addresses).collect())
    }
}

/// What the names of an image decide as long as nothing is looked up, and what must be so besides, by the names whose
/// rules require it.
///
/// What a rule denies is denied under every name; of an upstream's image that nobody named by ours, if the rule is about
/// that upstream. What a rule requires of content of ours it requires under every name
/// as well, while a name of ours that no rule allows says nothing about the one that is judged.
pub(super) fn by_names<'m>(
    policy: &Policy,
    namespace: &str,
    meant: &'m Meant,
) -> (Decision, Vec<(&'m ImageName, Needs)>) {
    let mut required = Vec::new();
    let mut undigested = None;
    for name in &meant.spellings {
        let (decision, needs) = policy.decide_by_name(name, namespace);
        match decision.rule {
            Rule::Deny(_) => return (decision, Vec::new()),
            _ if !matches!(meant.whose, Whose::Own(_)) => {}
            // Where all images need a digest, the rule of the name that is judged may make an exception; but not from
            // what another name's rule requires, which was not looked at without a digest.
            Rule::RequireDigest(_) if policy.rule_requires(name, namespace) => {
                undigested.get_or_insert(decision);
            }
            _ if !needs.is_empty() => required.push((name, needs)),
            _ => {}
        }
    }
    for here in &meant.here {
        let denied = policy.denied_below(&here.name, namespace);
        let denied = denied.filter(|decision| {
            decision.rule.listed().is_some_and(|listed| here.is_meant_by(&listed.pattern))
        });
        if let Some(decision) = denied {
            return (decision, Vec::new());
        }
    }
    let (decision, needs) = policy.decide_by_name(&meant.judged, namespace);
    match (decision.verdict, undigested) {
        (Verdict::Deny, _) => return (decision, Vec::new()),
        (Verdict::Allow, Some(undigested)) => return (undigested, Vec::new()),
        (Verdict::Allow, None) => {}
    }
    if !needs.is_empty() {
        required.insert(0, (&meant.judged, needs));
    }
    (decision, required)
}

/// The decision, told to somebody who wrote the image otherwise than it is judged.
pub(super) fn as_written(decision: Decision, written: &ImageName) -> Decision {
    let written = written.to_string();
    if decision.verdict == Verdict::Allow || decision.image == written {
        return decision;
    }
    Decision { why: format!("{} (written {written})", decision.why), ..decision }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pull::Prefixes;

    /// Whether the policy lets the image run by its name, and how often something is required of it.
    fn judged(policy: &str, image: &str) -> (bool, Vec<String>) {
        let policy = Policy::parse(policy).unwrap();
        let prefixes = Prefixes::from([("hub".parse().unwrap(), "docker.io".parse().unwrap())]);
        let names = Names::new(&["trow.test".to_owned()], &prefixes);
        let others = ["127.0.0.1:25100".to_owned()];
        let meant = names.meant(&image.parse().unwrap(), &others).unwrap();
        let (decision, required) = by_names(&policy, "default", &meant);
        (decision.verdict == Verdict::Allow, required.iter().flat_map(|(_, needs)| needs.words()).collect())
    }

    const OURS: [&str; 4] = [
        "trow.test/acme/app:1",
        "trow.test:5000/acme/app:1",
        "127.0.0.1:25100/acme/app:1",
        "trow.test/f/trow.test__5000/acme/app:1",
    ];

    #[test]
    fn what_is_required_of_our_images_is_so_under_every_name() {
        let exists = "version: 1\ndefault: allow\nallow: [{image: trow.test/acme/**, require: [exists]}]";
        let digest = "version: 1\ndefault: allow\nallow: [{image: trow.test/acme/**, requireDigest: true}]";
        for image in OURS {
            assert_eq!(judged(exists, image), (true, vec!["exists".to_owned()]), "{image}");
            assert!(!judged(digest, image).0, "{image}");
        }
        assert_eq!(judged(exists, "trow.test:5000/other/app:1"), (true, vec![]));
        // Another registry's content, which only passes through us, is judged as what it is.
        assert_eq!(judged(exists, "trow.test/f/quay.io/acme/app:1"), (true, vec![]));
    }

    #[test]
    fn needs_of_two_names_are_both_kept() {
        let policy = "version: 1\ndefault: deny\nallow: [{image: trow.test/**, require: [exists]}, {image: \
                      \"127.0.0.1:25100/**\", require: [replicated]}]";
        let (allowed, mut required) = judged(policy, OURS[2]);
        required.sort();
        assert_eq!((allowed, required), (true, vec!["exists".to_owned(), "replicated".to_owned()]));
    }

    #[test]
    fn an_exception_for_one_name_is_none_from_what_another_requires() {
        let policy = "version: 1\ndefault: deny\nrequireDigest: true\nallow: [{image: trow.test/acme/**, requireDigest: \
                      false}, {image: \"127.0.0.1:25100/acme/**\", require: [exists]}]";
        assert!(!judged(policy, OURS[0]).0);
        let digest = format!("{}@sha256:{}", OURS[0], "a".repeat(64));
        assert_eq!(judged(policy, &digest), (true, vec!["exists".to_owned()]));
    }

    #[test]
    fn an_image_that_leads_from_one_of_our_names_to_the_next_is_denied() {
        let prefixes = Prefixes::from([("library".parse().unwrap(), "docker.io".parse().unwrap())]);
        let names = Names::new(&["trow.test".to_owned()], &prefixes);
        let others = ["docker.io".to_owned()];
        let why = names.meant(&"nginx".parse().unwrap(), &others).unwrap_err();
        assert!(why.contains("mutate.mirror"), "{why}");
        assert!(names.meant(&"quay.io/a/b:1".parse().unwrap(), &others).is_ok());
    }

    #[test]
    fn a_name_that_no_rule_allows_denies_no_other() {
        for policy in [
            "version: 1\ndefault: deny\nallow: [{image: trow.test/acme/**}]",
            "version: 1\ndefault: allow\nrequireDigest: true\nallow: [{image: trow.test/acme/**, requireDigest: false}]",
        ] {
            assert_eq!(judged(policy, OURS[0]), (true, vec![]), "{policy}");
            assert!(!judged(policy, OURS[2]).0, "{policy}");
        }
    }

    #[test]
    fn a_denial_of_either_spelling_denies_both() {
        let named = |pattern: &str| format!("version: 1\ndefault: allow\ndeny: [{{image: {pattern:?}}}]");
        let spellings = [
            "nginx:1",
            "docker.io:443/library/nginx:1",
            "trow.test/f/docker.io/library/nginx:1",
            "trow.test/f/docker.io/nginx:1",
            "trow.test:5000/f/docker.io/nginx:1",
            "127.0.0.1:25100/f/docker.io/nginx:1",
            "trow.test/f/127.0.0.1__25100/f/docker.io/nginx:1",
            "trow.test/hub/nginx:1",
        ];
        for pattern in [
            "docker.io/library/nginx",
            "docker.io/**",
            "trow.test/f/docker.io/library/nginx",
            "trow.test/f/docker.io/nginx:1",
            "trow.test/f/docker.io/**",
            "127.0.0.1:25100/f/*.io/library/*",
            "trow.test/hub/nginx",
            "trow.test/hub/library/*",
        ] {
            for image in spellings {
                assert!(!judged(&named(pattern), image).0, "{image} by {pattern}");
            }
            for other in
                ["trow.test/acme/nginx:1", "quay.io/library/nginx:1", "trow.test/f/quay.io/library/nginx:1"]
            {
                let denied = pattern.contains("*.io") && other.contains("quay.io");
                assert_eq!(judged(&named(pattern), other).0, !denied, "{other} by {pattern}");
            }
        }
        // What is denied by any name of ours is not every image that could be pulled through us.
        for pattern in ["trow.test/**", "trow.test/f/**", "trow.test/*/*/**", "trow.test/**/nginx"] {
            assert!(judged(&named(pattern), "nginx:1").0, "{pattern}");
            assert!(!judged(&named(pattern), "trow.test/f/docker.io/nginx:1").0, "{pattern}");
        }
    }

    #[test]
    fn a_port_that_nobody_says_is_ours_is_allowed_nothing_of_an_upstreams() {
        let of_quay = "version: 1\ndefault: deny\nallow: [{image: quay.io/**}]";
        assert!(judged(of_quay, "trow.test/f/quay.io/a:1").0);
        assert!(judged(of_quay, "trow.test:25100/f/quay.io/a:1").0);
        assert!(!judged(of_quay, "trow.test:31000/f/quay.io/a:1").0);
        let but_bad = "version: 1\ndefault: allow\ndeny: [{image: quay.io/bad}]";
        assert!(!judged(but_bad, "trow.test:31000/f/quay.io/bad:1").0);
        assert!(judged(but_bad, "trow.test:31000/f/quay.io/a:1").0);
    }

    #[test]
    fn a_denial_says_how_the_image_was_written() {
        let policy = Policy::parse("version: 1\ndefault: deny").unwrap();
        let decision = |image: &str| policy.decide_by_name(&image.parse().unwrap(), "default").0;
        let written = "trow.test/hub/bad:1".parse().unwrap();
        let told = as_written(decision("bad:1"), &written);
        assert!(told.why.ends_with(" (written trow.test/hub/bad:1)"), "{}", told.why);
        assert_eq!(as_written(decision("bad:1"), &"bad:1".parse().unwrap()), decision("bad:1"));
    }
}
