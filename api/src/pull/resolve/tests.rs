//! Names in every way in which clients write them, and whose they are.

use http::Method;

use super::*;
use crate::route::Route;

fn resolver() -> Resolver {
    let hostnames = ["trow.example.com".to_owned(), "localhost:5000".to_owned()];
    let prefixes = [
        ("hub", "docker.io"),
        ("mirrors/quay", "quay.io"),
        ("mirrors", "registry.example.com:5000"),
        ("library", "docker.io"),
        ("own/below", "ghcr.io"),
    ];
    let prefixes = prefixes.map(|(prefix, host)| (prefix.parse().unwrap(), host.parse().unwrap()));
    Resolver::new(&hostnames, &Prefixes::from(prefixes))
}

/// What a path and an `ns=` stand for: `own <repository>`, `<host> <repository>`, or the code of
/// what is wrong.
fn named(path: &str, ns: Option<&str>) -> String {
    let named = || {
        let route = Route::parse(&Method::GET, &format!("/v2/{path}/tags/list"))?;
        let resolver = resolver();
        let namespace = resolver.namespace(ns)?;
        resolver.resolve(route.repo().unwrap(), &namespace)
    };
    match named() {
        Ok(Named::Own(repo)) => format!("own {repo}"),
        Ok(Named::Upstream(name)) => format!("{} {}", name.host(), name.repo()),
        Err(error) => format!("{} {}", error.problem().status().as_u16(), error.problem().code()),
    }
}

const INVALID: &str = "400 NAME_INVALID";

#[test]
fn table_of_names() {
    let long = "a".repeat(240);
    let too_long = "a".repeat(255);
    let long_local = format!("quay.io {long}");
    for (path, ns, expected) in [
        // Ours.
        ("app", None, "own app"),
        ("team/app", None, "own team/app"),
        ("a/b/c/d", None, "own a/b/c/d"),
        ("docker.io/library/nginx", None, "own docker.io/library/nginx"),
        ("quay.io/app", None, "own quay.io/app"),
        ("team/f/docker.io/nginx", None, "own team/f/docker.io/nginx"),
        ("ff/docker.io/nginx", None, "own ff/docker.io/nginx"),
        ("f-/x", None, INVALID),
        ("App", None, INVALID),
        ("a:5000/b", None, INVALID),
        ("team/a:5000/b", None, INVALID),
        // Ours, said so.
        ("app", Some("trow.example.com"), "own app"),
        ("app", Some("TROW.Example.Com"), "own app"),
        ("app", Some("localhost:5000"), "own app"),
        ("hub/nginx", Some("trow.example.com"), "docker.io library/nginx"),
        ("f/quay.io/app", Some("trow.example.com"), "quay.io app"),
        // Another's name with one of our ports is another's.
        ("app", Some("trow.example.com:5000"), "trow.example.com:5000 app"),
        ("app", Some("localhost"), "localhost app"),
        // By namespace.
        ("library/nginx", Some("docker.io"), "docker.io library/nginx"),
        ("nginx", Some("docker.io"), "docker.io library/nginx"),
        ("nginx", Some("Docker.IO"), "docker.io library/nginx"),
        ("nginx", Some("index.docker.io"), "docker.io library/nginx"),
        ("nginx", Some("registry-1.docker.io"), "docker.io library/nginx"),
        ("nginx", Some("docker.io:443"), "docker.io:443 nginx"),
        ("acme/app", Some("docker.io"), "docker.io acme/app"),
        ("nginx", Some("quay.io"), "quay.io nginx"),
        ("a/b/c", Some("ghcr.io"), "ghcr.io a/b/c"),
        ("app", Some("registry.example.com:5000"), "registry.example.com:5000 app"),
        ("app", Some("127.0.0.1:5001"), "127.0.0.1:5001 app"),
        ("app", Some("10.0.0.1"), "10.0.0.1 app"),
        // No registries.
        ("app", Some(""), INVALID),
        ("app", Some("a_b"), INVALID),
        ("app", Some("a/b"), INVALID),
        ("app", Some("https://docker.io"), INVALID),
        ("app", Some("user@docker.io"), INVALID),
        ("app", Some("docker.io:"), INVALID),
        ("app", Some("docker.io:0"), INVALID),
        ("app", Some("docker.io:65536"), INVALID),
        ("app", Some("docker.io:http"), INVALID),
        ("app", Some("[::1]:5000"), INVALID),
        ("app", Some("-docker.io"), INVALID),
        ("app", Some(".."), INVALID),
        ("app", Some("a b"), INVALID),
        // Below f/.
        ("f/docker.io/nginx", None, "docker.io library/nginx"),
        ("f/docker.io/library/nginx", None, "docker.io library/nginx"),
        ("f/docker.io/acme/app", None, "docker.io acme/app"),
        ("f/Docker.IO/nginx", None, "docker.io library/nginx"),
        ("f/index.docker.io/nginx", None, "docker.io library/nginx"),
        ("f/quay.io/nginx", None, "quay.io nginx"),
        ("f/localhost:5001/a/b", None, "localhost:5001 a/b"),
        ("f/localhost%3A5001/a/b", None, "localhost:5001 a/b"),
        ("f/localhost__5001/a/b", None, "localhost:5001 a/b"),
        ("f/registry.example.com:5000/app", None, "registry.example.com:5000 app"),
        ("f/f/f", None, "f f"),
        ("f/quay.io/f/docker.io/nginx", None, "quay.io f/docker.io/nginx"),
        ("f/quay.io/hub/nginx", None, "quay.io hub/nginx"),
        // Ourselves.
        ("f/trow.example.com/app", None, INVALID),
        ("f/TROW.example.com/app", Some("trow.example.com"), INVALID),
        ("f/localhost:5000/app", None, INVALID),
        ("f/localhost/app", None, "localhost app"),
        ("f", None, INVALID),
        ("f/docker.io", None, INVALID),
        ("f/nginx", None, INVALID),
        ("f/a_b/nginx", None, INVALID),
        ("f/a__b/nginx", None, INVALID),
        ("f/localhost:0/nginx", None, INVALID),
        ("f/localhost:99999/nginx", None, INVALID),
        ("f/localhost:5001", None, INVALID),
        ("f/localhost:5001/A", None, INVALID),
        ("f/../nginx", None, INVALID),
        ("f//nginx", None, INVALID),
        ("f/quay.io%2Fapp/nginx", None, INVALID),
        // Below f/, and the namespace said as well.
        ("f/docker.io/nginx", Some("docker.io"), "docker.io library/nginx"),
        ("f/docker.io/nginx", Some("index.docker.io"), "docker.io library/nginx"),
        ("f/localhost:5001/a", Some("localhost:5001"), "localhost:5001 a"),
        ("f/quay.io/app", Some("ghcr.io"), "ghcr.io f/quay.io/app"),
        ("f/app", Some("ghcr.io"), "ghcr.io f/app"),
        ("f", Some("ghcr.io"), "ghcr.io f"),
        ("f", Some("docker.io"), "docker.io library/f"),
        // Below a prefix of one component or several; the longest has it.
        ("hub/nginx", None, "docker.io library/nginx"),
        ("hub/acme/app", None, "docker.io acme/app"),
        ("hub/library/nginx", None, "docker.io library/nginx"),
        ("library/nginx", None, "docker.io library/nginx"),
        ("mirrors/quay/app", None, "quay.io app"),
        ("mirrors/quay/a/b", None, "quay.io a/b"),
        ("mirrors/app", None, "registry.example.com:5000 app"),
        ("mirrors/quays/app", None, "registry.example.com:5000 quays/app"),
        ("mirrors/quay", None, INVALID),
        ("own/below/app", None, "ghcr.io app"),
        ("own/below/f/quay.io/app", None, "ghcr.io f/quay.io/app"),
        // Beside and above one; what is named like one would hide behind it.
        ("hubs/nginx", None, "own hubs/nginx"),
        ("hu", None, "own hu"),
        ("own", None, "own own"),
        ("own/app", None, "own own/app"),
        ("team/hub/nginx", None, "own team/hub/nginx"),
        ("hub", None, INVALID),
        ("mirrors", None, INVALID),
        ("own/below", None, INVALID),
        // A prefix here is an organisation there.
        ("hub/nginx", Some("docker.io"), "docker.io hub/nginx"),
        ("hub/nginx", Some("quay.io"), "quay.io hub/nginx"),
        ("library/nginx", Some("quay.io"), "quay.io library/nginx"),
        ("hub", Some("docker.io"), "docker.io library/hub"),
        // As long as a name can be, and longer.
        (&long, Some("quay.io"), &long_local),
        (&too_long, Some("quay.io"), INVALID),
    ] {
        assert_eq!(named(path, ns), expected, "{path} ns={ns:?}");
    }
}

#[test]
fn a_name_is_spelled_once_for_all_ways_to_write_it() {
    for (name, expected) in [
        ("f/localhost:5001/a", "f/localhost__5001/a"),
        ("f/Quay.IO/a", "f/quay.io/a"),
        ("f/index.docker.io/a", "f/docker.io/a"),
        ("f/quay.io/a:5/b", "f/quay.io/a:5/b"),
        ("f/a_b/c", "f/a_b/c"),
        ("team/localhost:5001/a", "team/localhost:5001/a"),
        ("f", "f"),
        ("f/x", "f/x"),
        ("", ""),
    ] {
        assert_eq!(spelled(name), expected, "{name}");
        assert_eq!(spelled(expected), expected, "spelled twice");
    }
}

#[test]
fn a_registry_may_be_named_before_v2() {
    for (path, moved) in [
        ("/hub/v2/library/nginx/manifests/1", Some("/v2/hub/library/nginx/manifests/1")),
        ("/hub/v2/nginx/blobs/sha256:00", Some("/v2/hub/nginx/blobs/sha256:00")),
        ("/hub/v2/", Some("/v2/")),
        ("/hub/v2", Some("/v2/")),
        ("/mirrors/quay/v2/app/tags/list", Some("/v2/mirrors/quay/app/tags/list")),
        ("/f/docker.io/v2/library/nginx/manifests/1", Some("/v2/f/docker.io/library/nginx/manifests/1")),
        ("/f/localhost:5001/v2/v2/v2/manifests/1", Some("/v2/f/localhost:5001/v2/v2/manifests/1")),
        ("/f/docker.io/v2/", Some("/v2/")),
        ("/own/v2/app/manifests/1", None),
        ("/v2/hub/nginx/manifests/1", None),
        ("/f/v2/app/manifests/1", None),
        ("/f/a_b/v2/app/manifests/1", None),
        ("/f/docker.io/x/v2/app/manifests/1", None),
        ("/-/trow/v1/status", None),
        ("//v2/", None),
        ("/", None),
        ("", None),
    ] {
        assert_eq!(resolver().moved(path).as_deref(), moved, "{path}");
    }
}
