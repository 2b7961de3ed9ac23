//! Images, and what decides about each of them.

use super::super::{Facts, Policy, Rule, Verdict};
use crate::pull::ImageName;

const POLICY: &str = "\
version: 1
default: deny
forbidTags: [latest, nightly-*]
allow:
  - image: registry.k8s.io/**
  - image: docker.io/library/*
  - image: docker.io/library/postgres
    requireDigest: true
  - image: quay.io/**
  - image: quay.io/acme/app:1.*
  - image: quay.io/acme/app:2.0
  - image: localhost:5000/**
  - image: \"*.internal.example/**\"
  - image: ghcr.io/acme/**/release
  - image: ghcr.io/acme/tool:v1
  - image: ghcr.io/*/shared
  - image: registry.example.com:5000/a/*
deny:
  - image: docker.io/library/old-*
  - image: quay.io/acme/**
  - image: quay.io/acme/app:1.3
  - image: ghcr.io/acme/secret/**
  - image: \"**:bad\"
  - image: bad.internal.example/**
  - image: ghcr.io/acme/tool:v1
  - image: quay.io/x-*
  - image: quay.io/*-y
";

/// `@D` is a digest; what is left out of a rule's name is its pattern.
const ROWS: &[(&str, &str)] = &[
    // Docker Hub has many names, and many look like it.
    ("nginx:1", "allow[1]"),
    ("nginx", "forbidTags \"latest\""),
    ("nginx:latest", "forbidTags \"latest\""),
    ("docker.io/nginx:1", "allow[1]"),
    ("docker.io/library/nginx:1", "allow[1]"),
    ("index.docker.io/nginx:1", "allow[1]"),
    ("index.docker.io/library/nginx:1", "allow[1]"),
    ("registry-1.docker.io/library/nginx:1", "allow[1]"),
    ("registry.hub.docker.com/library/nginx:1", "allow[1]"),
    ("DOCKER.IO/library/nginx:1", "allow[1]"),
    ("Docker.io/nginx:1", "allow[1]"),
    ("library/nginx:1", "allow[1]"),
    ("docker.io/library:1", "allow[1]"),
    ("acme/app:1", "default"),
    ("docker.io/library/nginx/x:1", "default"),
    ("docker.io:443/library/nginx:1", "default"),
    ("docker.io.evil.example/library/nginx:1", "default"),
    ("evildocker.io/library/nginx:1", "default"),
    ("evil.example/docker.io/library/nginx:1", "default"),
    ("xn--docker-abc.io/library/nginx:1", "default"),
    ("docker.io./library/nginx:1", "unreadable name"),
    ("d\u{43e}cker.io/library/nginx:1", "unreadable name"),
    // Tags and digests.
    ("nginx@D", "allow[1]"),
    ("nginx:1@D", "allow[1]"),
    ("nginx:latest@D", "forbidTags \"latest\""),
    ("nginx:nightly-1", "forbidTags \"nightly-*\""),
    ("nginx:nightly-1@D", "forbidTags \"nightly-*\""),
    ("nginx:nightly", "allow[1]"),
    ("nginx:LATEST", "allow[1]"),
    ("nginx:latest-2", "allow[1]"),
    ("postgres:16", "requireDigest"),
    ("library/postgres:16", "requireDigest"),
    ("postgres@D", "allow[2]"),
    ("postgres:16@D", "allow[2]"),
    ("postgres", "forbidTags \"latest\""),
    ("postgres:latest@D", "forbidTags \"latest\""),
    ("postgresql:16", "allow[1]"),
    // A star begins and ends within a segment.
    ("old-x:1", "deny[0]"),
    ("old-x@D", "deny[0]"),
    ("old-x", "deny[0]"),
    ("old-x-y:1", "deny[0]"),
    ("index.docker.io/old-x:1", "deny[0]"),
    ("old:1", "allow[1]"),
    ("bold-x:1", "allow[1]"),
    ("old-x/y:1", "default"),
    ("Old-x:1", "unreadable name"),
    ("old-:1", "unreadable name"),
    // A host is matched whole, and a port is part of it.
    ("quay.io/a:1", "allow[3]"),
    ("quay.io/a/b/c/d:1", "allow[3]"),
    ("QUAY.IO/a:1", "allow[3]"),
    ("quay.io.evil.example/a:1", "default"),
    ("evilquay.io/a:1", "default"),
    ("quay.io-evil.example/a:1", "default"),
    ("quay.io:443/a:1", "default"),
    ("quay.io:443/x", "default"),
    ("quay.io:80/a:1", "default"),
    ("quay.io:0443/a:1", "unreadable name"),
    ("quay.io:/a:1", "unreadable name"),
    ("quay.io@evil.example/a:1", "unreadable name"),
    ("user@quay.io/a:1", "unreadable name"),
    ("user:password@quay.io/a:1", "unreadable name"),
    ("http://quay.io/a:1", "unreadable name"),
    ("https://quay.io/a:1", "unreadable name"),
    ("//quay.io/a:1", "unreadable name"),
    ("/quay.io/a:1", "unreadable name"),
    ("quay.io//a:1", "unreadable name"),
    ("quay.io/", "unreadable name"),
    ("quay.io/:1", "unreadable name"),
    ("quay.io/a/:1", "unreadable name"),
    ("quay.io/../a:1", "unreadable name"),
    ("quay.io/a/../../b:1", "unreadable name"),
    ("quay.io/acme/../a:1", "unreadable name"),
    ("quay.io/./a:1", "unreadable name"),
    ("quay.io/..a:1", "unreadable name"),
    ("quay.io/a..b:1", "unreadable name"),
    ("quay.io/A:1", "unreadable name"),
    ("quay.io#/a:1", "unreadable name"),
    ("quay.io?/a:1", "unreadable name"),
    ("quay.io\\a:1", "unreadable name"),
    ("quay.io/a%2fb:1", "unreadable name"),
    ("quay.io/*:1", "unreadable name"),
    ("quay.io/**:1", "unreadable name"),
    ("**", "unreadable name"),
    ("quay.io/a:1:2", "unreadable name"),
    ("quay.io/a:", "unreadable name"),
    ("quay.io/a@", "unreadable name"),
    ("quay.io/a:-1", "unreadable name"),
    ("quay.io/a:.1", "unreadable name"),
    ("quay.io/a:_1", "allow[3]"),
    ("quay.io/a:1*", "unreadable name"),
    ("quay.io/a@sha256:0a0a", "unreadable name"),
    ("quay.io/a@md5:0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a", "unreadable name"),
    ("quay.io/a@D@D", "unreadable name"),
    ("quay.io/a@D:1", "unreadable name"),
    ("quay.io/a@D/b", "unreadable name"),
    // The most specific pattern, and then its tag.
    ("quay.io/acme/app:1.0", "allow[4]"),
    ("quay.io/acme/app:1.", "allow[4]"),
    ("quay.io/acme/app:1.3", "deny[2]"),
    ("quay.io/acme/app:1.3@D", "deny[2]"),
    ("quay.io/acme/app:1.33", "allow[4]"),
    ("quay.io/acme/app:2.0", "allow[5]"),
    ("quay.io/acme/app:2.0@D", "allow[5]"),
    ("quay.io/acme/app:2.1", "deny[1]"),
    ("quay.io/acme/app:1", "deny[1]"),
    ("quay.io/acme/app@D", "deny[1]"),
    ("quay.io/acme/app", "deny[1]"),
    ("quay.io/acme/app/x:1.0", "deny[1]"),
    ("quay.io/acme/x:1", "deny[1]"),
    ("quay.io/acme/x/y:1", "deny[1]"),
    ("quay.io/acme:1", "allow[3]"),
    ("quay.io/acme2/x:1", "allow[3]"),
    ("quay.io/x-a:1", "deny[7]"),
    ("quay.io/a-y:1", "deny[8]"),
    ("quay.io/x-y:1", "deny[7]"),
    ("quay.io/x-a/b:1", "allow[3]"),
    ("quay.io/b/x-a:1", "allow[3]"),
    ("quay.io/a:bad", "allow[3]"),
    ("docker.io/library/nginx:bad", "allow[1]"),
    ("docker.io/acme/x:bad", "deny[4]"),
    ("other.example/a:bad", "deny[4]"),
    ("other.example/a:good", "default"),
    ("other.example/a@D", "default"),
    // Ports.
    ("localhost:5000/x:1", "allow[6]"),
    ("localhost:5000/x/y:1", "allow[6]"),
    ("LOCALHOST:5000/x:1", "allow[6]"),
    ("localhost:5001/x:1", "default"),
    ("localhost/x:1", "default"),
    ("localhost:5000", "allow[1]"),
    ("localhost:5000:1", "unreadable name"),
    ("localhost:05000/x:1", "unreadable name"),
    ("localhost:5000x/x:1", "unreadable name"),
    ("localhost:0/x:1", "unreadable name"),
    ("localhost:70000/x:1", "unreadable name"),
    ("127.0.0.1:5000/x:1", "default"),
    ("127.1:5000/x:1", "unreadable name"),
    ("2130706433:5000/x:1", "unreadable name"),
    ("0x7f.0.0.1:5000/x:1", "unreadable name"),
    ("[::1]:5000/x:1", "unreadable name"),
    ("registry.example.com:5000/a/b:1", "allow[11]"),
    ("registry.example.com/a/b:1", "default"),
    ("registry.example.com:5000/a/b/c:1", "default"),
    ("registry.example.com:5000/a:1", "default"),
    // Hosts with a star.
    ("a.internal.example/x:1", "allow[7]"),
    ("a.b.internal.example/x:1", "allow[7]"),
    ("internal.example/x:1", "default"),
    (".internal.example/x:1", "unreadable name"),
    ("bad.internal.example/x:1", "deny[5]"),
    ("BAD.internal.example/x/y:2", "deny[5]"),
    ("xbad.internal.example/x:1", "allow[7]"),
    ("a.internal.example.evil.example/x:1", "default"),
    ("a.internal.example:443/x:1", "default"),
    ("evil.example/a.internal.example/x:1", "default"),
    // Two stars.
    ("ghcr.io/acme/release:1", "allow[8]"),
    ("ghcr.io/acme/a/release:1", "allow[8]"),
    ("ghcr.io/acme/a/b/release:1", "allow[8]"),
    ("ghcr.io/acme/release/x:1", "default"),
    ("ghcr.io/acme/releases:1", "default"),
    ("ghcr.io/acme/secret/x:1", "deny[3]"),
    ("ghcr.io/acme/secret/release:1", "deny[3]"),
    ("ghcr.io/acme/secret:1", "default"),
    ("ghcr.io/acme/tool:v1", "deny[6]"),
    ("ghcr.io/acme/tool:v2", "default"),
    ("ghcr.io/acme/tool@D", "default"),
    ("ghcr.io/x/shared:1", "allow[10]"),
    ("ghcr.io/acme/shared:1", "allow[10]"),
    ("ghcr.io/x/y/shared:1", "default"),
    ("ghcr.io/shared:1", "default"),
    // Names that look like registries, and what is no name.
    ("registry.k8s.io/pause:3.9", "allow[0]"),
    ("registry.k8s.io/a/b@D", "allow[0]"),
    ("registry.k8s.io/pause", "forbidTags \"latest\""),
    ("registry.k8s.io:1", "allow[1]"),
    ("registryXk8s.io/pause:1", "default"),
    ("a.b:1", "allow[1]"),
    ("a.b/c:1", "default"),
    ("a__b:1", "allow[1]"),
    ("a--b:1", "allow[1]"),
    ("a_b/c:1", "default"),
    ("a___b:1", "unreadable name"),
    ("-a:1", "unreadable name"),
    ("a-:1", "unreadable name"),
    ("ACME/app:1", "unreadable name"),
    ("sha256:abc", "unreadable name"),
    ("sha256:xyz", "allow[1]"),
    ("docker.io/library/sha256:abc", "allow[1]"),
    ("", "unreadable name"),
    (" ", "unreadable name"),
    (" nginx:1", "unreadable name"),
    ("nginx:1 ", "unreadable name"),
    ("nginx:1\n", "unreadable name"),
    ("nginx\0:1", "unreadable name"),
    ("nginx:1\u{200b}", "unreadable name"),
    ("ng\u{131}nx:1", "unreadable name"),
    ("nginx:\u{e9}", "unreadable name"),
    (":1", "unreadable name"),
    ("@D", "unreadable name"),
    ("/nginx:1", "unreadable name"),
    ("nginx/", "unreadable name"),
    ("nginx:1?x", "unreadable name"),
];

/// What decides about the image: its rule, without the pattern of one that is in a list.
fn decided(policy: &Policy, image: &str) -> String {
    let decision = match image.parse::<ImageName>() {
        Ok(image) => policy.decide(&image, "default", &Facts::default()),
        Err(why) => policy.decide_unreadable(&why, "default"),
    };
    let allowed = decision.rule.kind() == "allow";
    assert_eq!(decision.verdict == Verdict::Allow, allowed, "{image}: {decision:?}");
    assert!(!decision.why.is_empty() && decision.sentence(None).len() < 1500, "{image}: {decision:?}");
    match &decision.rule {
        Rule::Allow(listed) | Rule::Deny(listed) => format!("{}[{}]", listed.list, listed.index),
        other => other.to_string(),
    }
}

#[test]
fn every_image_is_decided_by_the_rule_that_is_written_beside_it() {
    let policy = Policy::parse(POLICY).unwrap();
    let digest = format!("sha256:{}", "0a".repeat(32));
    for (image, rule) in ROWS {
        assert_eq!(decided(&policy, &image.replace("@D", &format!("@{digest}"))), *rule, "{image:?}");
    }
    assert!(ROWS.len() >= 150, "{}", ROWS.len());
}

#[test]
fn names_as_long_as_they_may_be_are_decided_and_longer_ones_are_denied() {
    let policy = Policy::parse(POLICY).unwrap();
    let hex = "0a".repeat(64);
    let sha512 = format!("quay.io/a@sha512:{hex}");
    let longest = format!("quay.io/{}:1", ["a"; 128].join("/"));
    for (image, rule) in [
        (sha512.clone(), "allow[3]"),
        (sha512[..sha512.len() - 2].to_owned(), "unreadable name"),
        (sha512.replace("sha512", "sha384"), "unreadable name"),
        (sha512.replace("0a", "0A"), "unreadable name"),
        (longest.clone(), "allow[3]"),
        (longest.replace("quay.io/", "quay.io/a"), "unreadable name"),
        (format!("quay.io/a:{}", "a".repeat(128)), "allow[3]"),
        (format!("quay.io/a:{}", "a".repeat(129)), "unreadable name"),
        (format!("{}/x:1", ["a"; 100].join(".")), "default"),
        (format!("{}/x:1", ["a"; 102].join(".")), "unreadable name"),
        (format!("{}.example/x:1", "a".repeat(63)), "default"),
        (format!("{}.example/x:1", "a".repeat(64)), "unreadable name"),
        ("a".repeat(1_000_000), "unreadable name"),
        ("a/".repeat(500_000), "unreadable name"),
        (hex[..64].to_owned(), "unreadable name"),
        (format!("sha256:{}", &hex[..64]), "unreadable name"),
    ] {
        assert_eq!(decided(&policy, &image), rule, "{}", &image[..image.len().min(80)]);
    }
}
