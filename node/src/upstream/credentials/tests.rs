//! Which entry counts, and what is said of files that are none.

use super::*;

fn name(text: &str) -> UpstreamName {
    let (host, repo) = text.split_once('/').unwrap();
    UpstreamName::new(host.parse().unwrap(), &repo.parse().unwrap()).unwrap()
}

fn parse(json: &str) -> Result<Credentials, String> {
    Credentials::parse(json.as_bytes())
}

fn user(source: Option<Source>) -> String {
    match source {
        Some(Source::Here(Login::Password { user, password })) => format!("{user}:{password}"),
        Some(Source::Here(Login::Identity(token))) => format!("token {token}"),
        Some(Source::Helper { helper, server }) => format!("{helper} {server}"),
        None => "nobody".to_owned(),
    }
}

#[test]
fn the_longest_path_that_a_repository_lies_below_counts() {
    let file = parse(
        r#"{"auths": {
            "registry.example.com": {"username": "all", "password": "p"},
            "https://registry.example.com/team/": {"auth": "dGVhbTpwOnE="},
            "registry.example.com/team/app": {"identitytoken": "t"},
            "registry.example.com:5000": {"username": "port", "password": "p"},
            "https://index.docker.io/v1/": {"username": "hub", "password": "p"},
            "empty.example.com": {}
        }, "credHelpers": {"gcr.io": "gcloud"}, "HttpHeaders": {"x": "y"}}"#,
    )
    .unwrap();
    for (repository, expected) in [
        ("registry.example.com/app", "all:p"),
        ("registry.example.com/team/x", "team:p:q"),
        ("registry.example.com/teams/x", "all:p"),
        ("registry.example.com/team/app", "token t"),
        ("registry.example.com/team/app/x", "token t"),
        ("registry.example.com/team/app2", "team:p:q"),
        ("registry.example.com:5000/team/x", "port:p"),
        ("docker.io/nginx", "hub:p"),
        ("gcr.io/p/x", "gcloud gcr.io"),
        ("empty.example.com/x", "nobody"),
        ("sub.registry.example.com/x", "nobody"),
        ("quay.io/x", "nobody"),
    ] {
        assert_eq!(user(file.find(&name(repository), true)), expected, "{repository}");
    }
}

#[test]
fn a_store_is_asked_for_what_the_file_lists_or_is_made_for() {
    let file = parse(r#"{"auths": {"https://quay.io": {}}, "credsStore": "pass"}"#).unwrap();
    assert_eq!(user(file.find(&name("quay.io/x"), false)), "pass https://quay.io");
    assert_eq!(user(file.find(&name("ghcr.io/x"), false)), "nobody");
    assert_eq!(user(file.find(&name("ghcr.io/x"), true)), "pass ghcr.io");
    assert_eq!(user(file.find(&name("docker.io/x"), true)), format!("pass {DOCKER_SERVER}"));
}

#[test]
fn what_is_wrong_is_said_without_a_secret() {
    for bad in [
        "hunter2",
        r#"{"auths": {"quay.io": "hunter2"}}"#,
        r#"{"auths": {"quay.io": {"auth": "hunter2!"}}}"#,
        r#"{"auths": {"quay.io": {"auth": "aHVudGVyMg=="}}}"#,
        r#"{"auths": {"not a host": {"username": "hunter2"}}}"#,
        r#"{"credHelpers": {"quay.io": "../sh"}}"#,
        r#"{"credsStore": "a b"}"#,
    ] {
        let why = parse(bad).unwrap_err();
        assert!(!why.contains("hunter2"), "{why}");
    }
    let file = parse(r#"{"auths": {"quay.io": {"username": "u", "password": "hunter2"}}}"#).unwrap();
    assert!(!format!("{file:?}").contains("hunter2"));
}
