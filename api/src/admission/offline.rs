//! The decisions about images where nothing can be looked up: by a policy, this registry's names, and what somebody
//! says to be so.
//!
//! Always holds: names are understood as for a review; what nobody looked up and nobody stated is told beside the
//! decision, never taken for known. Never does: I/O.

use std::collections::BTreeSet;

use trow_raft::Digest;

use super::judge::{as_written, by_names};
use super::names::Names;
use crate::policy::{Copies, Decision, Fact, Facts, Policy, Verdict};
use crate::pull::{ImageName, InvalidImage, Prefixes};

/// What is said to be so of every image; what is not said is not so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assumed {
    /// It is there.
    pub exists: bool,
    /// Its tag stands for a digest, and for the one beside it.
    pub resolves: bool,
    /// All of it is on its nodes.
    pub replicated: bool,
    /// The keys, by name, that signed it.
    pub signed_by: Vec<String>,
}

impl Assumed {
    fn facts(&self, image: &ImageName) -> Facts {
        let missing =
            || Copies::Missing("it is not replicated: wait until all of it is on its nodes".to_owned());
        let digest = self.resolves.then(|| image.digest.unwrap_or_else(|| Digest::sha256(b"")));
        Facts {
            exists: Fact::Known(self.exists),
            replicated: Fact::Known(if self.replicated { Copies::Enough } else { missing() }),
            digest: Fact::Known(digest),
            signed_by: Fact::Known(self.signed_by.clone()),
        }
    }
}

/// Decides about images by their names.
#[derive(Clone, Debug)]
pub struct Offline {
    policy: Policy,
    names: Names,
    mirror: Vec<String>,
    assumed: Option<Assumed>,
}

impl Offline {
    /// By `policy`, where this registry has these names; those at which its members are found are not known.
    pub fn new(policy: Policy, hostnames: &[String], prefixes: &Prefixes) -> Offline {
        let mirror = policy.mutate().mirror.iter().map(ToString::to_string).collect();
        Offline { policy, names: Names::new(hostnames, prefixes), mirror, assumed: None }
    }

    /// Takes this to be so, and nothing else.
    #[must_use]
    pub fn assuming(self, assumed: Assumed) -> Offline {
        Offline { assumed: Some(assumed), ..self }
    }

    /// What is decided about the image in a namespace, and what must be so besides for it to be allowed, in words.
    pub fn decide(&self, text: &str, namespace: &str) -> (Decision, Vec<String>) {
        let meant = text.parse::<ImageName>().and_then(|name| {
            let meant = self.names.meant(&name, &self.mirror);
            meant.map(|meant| (name, meant)).map_err(|why| InvalidImage::new(text, why))
        });
        let (written, meant) = match meant {
            Ok(read) => read,
            Err(why) => return (self.policy.decide_unreadable(&why, namespace), Vec::new()),
        };
        let (decision, required) = by_names(&self.policy, namespace, &meant);
        let Some(assumed) = &self.assumed else {
            let mut words: Vec<String> = required.iter().flat_map(|(_, needs)| needs.words()).collect();
            let mut told = BTreeSet::new();
            words.retain(|word| told.insert(word.clone()));
            return (as_written(decision, &written), words);
        };
        let mut judged =
            required.iter().map(|(name, _)| self.policy.decide(name, namespace, &assumed.facts(name)));
        let denied = judged.find(|judged| judged.verdict == Verdict::Deny);
        (as_written(denied.unwrap_or(decision), &written), Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "version: 1
allow:
  - image: quay.io/**
  - image: docker.io/library/*
    requireDigest: true
  - image: trow.test/**
    require: [exists, replicated]
  - image: ghcr.io/**
    require: [resolves]
    signedBy: [a, b]
deny:
  - image: \"quay.io:443/bad\"
mutate: {mirror: mirror.test}
keys:
  a: |
    -----BEGIN PUBLIC KEY-----
    MCowBQYDK2VwAyEA7VkqYFO+Z3LWGZhcd16jxOBqH/h0T/xzicLXG5BSrCM=
    -----END PUBLIC KEY-----
  b: |
    -----BEGIN PUBLIC KEY-----
    MCowBQYDK2VwAyEA7VkqYFO+Z3LWGZhcd16jxOBqH/h0T/xzicLXG5BSrCM=
    -----END PUBLIC KEY-----
";

    fn offline() -> Offline {
        let prefixes = Prefixes::from([("hub".parse().unwrap(), "docker.io".parse().unwrap())]);
        Offline::new(Policy::parse(POLICY).unwrap(), &["trow.test".to_owned()], &prefixes)
    }

    #[track_caller]
    fn check(offline: &Offline, image: &str, verdict: Verdict, needs: &[&str]) -> Decision {
        let (decision, words) = offline.decide(image, "default");
        assert_eq!(
            (decision.verdict, words),
            (verdict, needs.iter().map(|n| (*n).to_owned()).collect()),
            "{image}"
        );
        decision
    }

    #[test]
    fn a_name_alone_is_judged_as_a_review_judges_it() {
        let (allow, deny) = (Verdict::Allow, Verdict::Deny);
        for (image, verdict, needs) in [
            ("quay.io/a", allow, &[][..]),
            ("quay.io:443/a", allow, &[]),
            ("quay.io:443/bad", deny, &[]),
            ("quay.io:444/a", deny, &[]),
            ("quay.io/A", deny, &[]),
            ("ghcr.io/a@sha256:0", deny, &[]),
            ("ghcr.io/a:1", allow, &["resolves", "signed by a or b"]),
            ("trow.test/a", allow, &["exists", "replicated"]),
            // What comes through this registry is what it is there.
            ("trow.test/f/quay.io/a", allow, &[]),
            ("trow.test:5000/hub/nginx", deny, &[]),
            ("mirror.test/f/quay.io/a", allow, &[]),
            ("other.test/f/quay.io/a", deny, &[]),
            // A rule is for the name that it has.
            ("trow.test:5000/a", deny, &[]),
        ] {
            check(&offline(), image, verdict, needs);
        }
        let why = check(&offline(), "trow.test/hub/nginx", deny, &[]).why;
        assert!(why.ends_with(" (written trow.test/hub/nginx:latest)"), "{why}");
    }

    #[test]
    fn what_is_assumed_is_so_and_nothing_else() {
        let with = |assumed: Assumed| offline().assuming(assumed);
        let (none, by) =
            (Assumed::default(), |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect());
        for (assumed, image, verdict, says) in [
            (none.clone(), "quay.io/a", Verdict::Allow, ""),
            (none.clone(), "trow.test/a", Verdict::Deny, "there is no such image"),
            (Assumed { exists: true, ..none.clone() }, "trow.test/a", Verdict::Deny, "it is not replicated"),
            (Assumed { exists: true, replicated: true, ..none.clone() }, "trow.test/a", Verdict::Allow, ""),
            (Assumed { signed_by: by(&["b"]), ..none.clone() }, "ghcr.io/a:1", Verdict::Deny, "its tag 1"),
            (
                Assumed { resolves: true, ..none.clone() },
                "ghcr.io/a:1",
                Verdict::Deny,
                "it has no signature by a or b",
            ),
            (Assumed { resolves: true, signed_by: by(&["b"]), ..none }, "ghcr.io/a:1", Verdict::Allow, ""),
        ] {
            let decision = check(&with(assumed.clone()), image, verdict, &[]);
            assert!(decision.why.starts_with(says), "{assumed:?}: {}", decision.why);
        }
    }
}
