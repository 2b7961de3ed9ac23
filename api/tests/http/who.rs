//! Who may do what, on every route, and what the others are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::future::join_all;
use reqwest::Method;
use trow_api::Settings;
use trow_api::auth::{Auth, Htpasswd, Users};
use trow_raft::{Digest, NodeId};

use crate::support::{IMAGE, Registry, TOKEN, header, member, problem};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Right {
    Pull,
    Push,
    Delete,
}

fn users(cost: u32) -> Users {
    let hash = bcrypt::hash("wonderland", cost).unwrap();
    Users::new(Htpasswd::parse(&format!("alice:{hash}\n")).unwrap())
}

fn settings(users: Option<Users>, anonymous_pull: bool, anonymous_push: bool) -> Settings {
    Settings { auth: Auth { users, anonymous_pull, anonymous_push }, ..Settings::default() }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// Requests of every kind, on what is there and on what is not, with the right that each takes.
fn requests(manifest: &str) -> Vec<(Method, String, Right)> {
    use Right::{Delete, Pull, Push};
    let (blob, none) = (Digest::sha256(b"layer"), Digest::sha256(b"nothing"));
    let mut all = vec![
        (Method::GET, "/v2/".to_owned(), Pull),
        (Method::HEAD, "/v2/".to_owned(), Pull),
        (Method::GET, "/v2/_catalog".to_owned(), Pull),
        (Method::GET, "/v2/_oci/ext/discover".to_owned(), Pull),
        (Method::GET, "/v2/no/such/endpoint".to_owned(), Pull),
        (Method::GET, "/v2/NOT-A-NAME/tags/list".to_owned(), Pull),
        (Method::PUT, "/v2/NOT-A-NAME/manifests/v1".to_owned(), Push),
        (Method::POST, "/v2/_catalog".to_owned(), Pull),
    ];
    for repo in ["a", "nowhere"] {
        for read in [Method::GET, Method::HEAD] {
            for path in [
                "manifests/v1".to_owned(),
                "manifests/none".to_owned(),
                format!("manifests/{manifest}"),
                format!("manifests/{none}"),
                format!("blobs/{blob}"),
                format!("blobs/{none}"),
                format!("referrers/{manifest}"),
                "tags/list".to_owned(),
            ] {
                all.push((read.clone(), format!("/v2/{repo}/{path}"), Pull));
            }
        }
        for path in [format!("manifests/{none}"), "manifests/none".to_owned()] {
            all.push((Method::PUT, format!("/v2/{repo}/{path}"), Push));
        }
        for query in
            ["", "?digest=x", &format!("?mount={blob}&from=a"), &format!("?mount={blob}"), "?mount=x"]
        {
            all.push((Method::POST, format!("/v2/{repo}/blobs/uploads/{query}"), Push));
        }
        for method in [Method::GET, Method::PATCH, Method::PUT, Method::DELETE] {
            for session in ["none?_state=x", "none", "!", "0123456789abcdef0123456789abcdef?_state=AAAA"] {
                all.push((method.clone(), format!("/v2/{repo}/blobs/uploads/{session}"), Push));
            }
        }
        for path in ["manifests/none".to_owned(), format!("manifests/{none}"), format!("blobs/{none}")] {
            all.push((Method::DELETE, format!("/v2/{repo}/{path}"), Delete));
        }
    }
    // These succeed for whoever may, so they come last.
    all.push((Method::DELETE, "/v2/a/manifests/v1".to_owned(), Delete));
    all.push((Method::DELETE, format!("/v2/a/manifests/{manifest}"), Delete));
    all.push((Method::DELETE, format!("/v2/a/blobs/{blob}"), Delete));
    all
}

/// Sends every request as this caller; `expected` gives what is told to one without the right.
async fn walk(settings: Settings, sent: &[String], expected: impl Fn(Right) -> Option<(u16, &'static str)>) {
    let registry = Registry::with(settings).await;
    let manifest =
        Digest::sha256(registry.push_image_as_admin("a", "v1", "layer").await.as_bytes()).to_string();
    // Everyone without a right reads the same, whatever is or is not there.
    let mut told: BTreeMap<Right, String> = BTreeMap::new();
    for (method, path, right) in requests(&manifest) {
        let mut request = registry.request(method.clone(), &path);
        for value in sent {
            request = request.header("authorization", value);
        }
        let response = request.send().await.unwrap();
        let what = format!("{method} {path} as {sent:?}");
        let status = response.status().as_u16();
        let challenge = header(&response, "www-authenticate").to_owned();
        let Some((expected, code)) = expected(right) else {
            assert!(![401, 403, 500].contains(&status), "{what}: {status}");
            continue;
        };
        assert_eq!(status, expected, "{what}");
        assert_eq!(challenge.starts_with("Basic realm="), expected == 401, "{what}: {challenge:?}");
        if method == Method::HEAD {
            continue;
        }
        let body = response.text().await.unwrap();
        assert!(body.contains(&format!("\"code\":\"{code}\"")), "{what}: {body}");
        assert_eq!(told.entry(right).or_insert_with(|| body.clone()), &body, "{what}");
    }
}

const NOBODY: (u16, &str) = (401, "UNAUTHORIZED");
const NOT_YOU: (u16, &str) = (403, "DENIED");

#[tokio::test]
async fn every_route_tells_anonymous_callers_the_same() {
    for (has_users, pull, push, allowed) in [
        (false, true, false, &[Right::Pull, Right::Push][..]),
        (false, false, false, &[]),
        (true, true, false, &[Right::Pull]),
        (true, true, true, &[Right::Pull, Right::Push]),
        (true, false, false, &[]),
    ] {
        // No credentials, and what skopeo sends when it has none.
        for sent in [vec![], vec![basic("", "")]] {
            let settings = settings(has_users.then(|| users(4)), pull, push);
            walk(settings, &sent, |right| (!allowed.contains(&right)).then_some(NOBODY)).await;
        }
    }
}

#[tokio::test]
async fn every_route_refuses_wrong_credentials_also_where_none_are_needed() {
    for sent in [
        vec![basic("alice", "wrong")],
        vec![basic("alice", "")],
        vec![basic("nobody", "wonderland")],
        vec![basic("admin", "wrong")],
        vec![basic("admin", "wonderland")],
        vec!["Bearer wrong".to_owned()],
        vec!["Bearer ".to_owned()],
        vec!["Negotiate abc".to_owned()],
        vec!["Basic !".to_owned()],
        vec![basic("alice", "wonderland"), basic("alice", "wonderland")],
    ] {
        walk(settings(Some(users(4)), true, true), &sent, |_| Some(NOBODY)).await;
    }
    // Without users there is nobody to log in as but the administrator.
    walk(settings(None, true, false), &["Bearer wrong".to_owned()], |_| Some(NOBODY)).await;
    walk(settings(None, true, false), &[basic("admin", "wrong")], |_| Some(NOBODY)).await;
    let sent = [basic("alice", "wonderland")];
    walk(settings(None, true, false), &sent, |right| (right == Right::Delete).then_some(NOBODY)).await;
}

#[tokio::test]
async fn users_push_and_pull_and_the_administrator_does_all() {
    for (pull, push) in [(true, false), (false, false), (true, true)] {
        let sent = [basic("alice", "wonderland")];
        walk(settings(Some(users(4)), pull, push), &sent, |right| {
            (right == Right::Delete).then_some(NOT_YOU)
        })
        .await;
        for sent in [format!("Bearer {TOKEN}"), basic("admin", TOKEN)] {
            walk(settings(Some(users(4)), pull, push), &[sent], |_| None).await;
        }
    }
    walk(settings(None, false, false), &[format!("Bearer {TOKEN}")], |_| None).await;
}

#[tokio::test]
async fn unknown_names_and_wrong_passwords_read_the_same() {
    let registry = Registry::with(settings(Some(users(4)), true, false)).await;
    let mut bodies = Vec::new();
    for (user, password) in [("alice", "wrong"), ("nobody", "wrong"), ("admin", "wrong")] {
        let request = registry.request(Method::GET, "/v2/").header("authorization", basic(user, password));
        bodies.push(request.send().await.unwrap().text().await.unwrap());
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
}

#[tokio::test]
async fn switched_off_deletes_are_405_for_whoever_may_look() {
    let off = |pull| Settings { delete: false, ..settings(Some(users(4)), pull, false) };
    let path = "/v2/a/manifests/v1";
    let registry = Registry::with(off(true)).await;
    assert_eq!(registry.request(Method::DELETE, path).send().await.unwrap().status(), 405);
    let registry = Registry::with(off(false)).await;
    assert_eq!(registry.request(Method::DELETE, path).send().await.unwrap().status(), 401);
    let alice = registry.request(Method::DELETE, path).header("authorization", basic("alice", "wonderland"));
    assert_eq!(alice.send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn clients_are_asked_for_a_login_before_they_push() {
    let registry = Registry::with(settings(Some(users(4)), true, false)).await;
    let anonymous = registry.get("/v2/").await;
    assert_eq!(anonymous.status(), 200);
    assert!(header(&anonymous, "www-authenticate").starts_with("Basic realm="));
    let alice = registry.request(Method::GET, "/v2/").header("authorization", basic("alice", "wonderland"));
    let alice = alice.send().await.unwrap();
    assert_eq!((alice.status().as_u16(), header(&alice, "www-authenticate")), (200, ""));
}

#[tokio::test]
async fn headers_that_a_proxy_would_set_let_nobody_in() {
    let registry = Registry::with(settings(Some(users(4)), false, false)).await;
    for (name, value) in [
        ("x-forwarded-user", "admin"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-access-token", TOKEN),
        ("x-forwarded-authorization", &format!("Bearer {TOKEN}")),
        ("x-original-authorization", &format!("Bearer {TOKEN}")),
        ("x-remote-user", "alice"),
        ("remote-user", "alice"),
        ("x-auth-request-user", "alice"),
        ("x-webauth-user", "alice"),
        ("x-real-ip", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1;by=127.0.0.1"),
        ("proxy-authorization", &basic("alice", "wonderland")),
        ("cookie", &format!("token={TOKEN}")),
    ] {
        let request = registry.request(Method::GET, "/v2/_catalog").header(name, value);
        assert_eq!(problem(request.send().await.unwrap()).await, (401, "UNAUTHORIZED".into()), "{name}");
    }
    let in_query = registry.get(&format!("/v2/_catalog?token={TOKEN}&access_token={TOKEN}")).await;
    assert_eq!(in_query.status(), 401);
}

#[tokio::test]
async fn the_refusal_does_not_wait_for_the_body() {
    let registry = Registry::with(settings(Some(users(4)), true, false)).await;
    for (expect, path) in
        [("", "manifests/v1"), ("Expect: 100-continue\r\n", "manifests/v1"), ("", "blobs/uploads/x")]
    {
        let head =
            format!("PUT /v2/a/{path} HTTP/1.1\r\nHost: x\r\n{expect}Content-Length: 1000000000\r\n\r\n");
        let answer = registry.raw(head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{expect}{answer}");
    }
}

#[tokio::test]
async fn guesses_are_put_off_and_known_users_go_on() {
    let registry = Arc::new(Registry::with(settings(Some(users(11)), false, false)).await);
    let ask = |password: String| {
        let request =
            registry.request(Method::GET, "/v2/").header("authorization", basic("alice", &password));
        async move { request.send().await.unwrap() }
    };
    assert_eq!(ask("wonderland".into()).await.status(), 200);
    let guesses = join_all((0..150).map(|n| ask(format!("guess {n}"))));
    let known = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        ask("wonderland".into()).await.status().as_u16()
    };
    let (guesses, known) = tokio::join!(guesses, known);
    assert_eq!(known, 200);
    let put_off: Vec<_> = guesses.iter().filter(|guess| guess.status() == 503).collect();
    assert!(!put_off.is_empty(), "all guesses were checked");
    assert!(put_off.iter().all(|guess| header(guess, "retry-after").parse::<u32>().is_ok()));
    assert!(guesses.iter().all(|guess| [401, 503].contains(&guess.status().as_u16())));
}

#[tokio::test]
async fn changes_are_made_in_the_name_of_the_caller() {
    let dir = tempfile::tempdir().unwrap();
    let id = NodeId(1);
    let metadata = trow_raft::Metadata::open(trow_raft::Settings::alone(id, dir.path())).await.unwrap();
    metadata.initialize([id].into()).await.unwrap();
    metadata.birth(1, vec![member(id)]).await;
    let blobs = trow_api::blobs::memory::Memory::new(metadata.clone(), vec![crate::support::evidence(id)]);
    let settings = settings(Some(users(4)), true, true);
    let registry = Registry::over(metadata.clone(), Arc::new(blobs), settings, vec![dir]).await;
    registry.push_image("a", "v1", "layer").await;
    let text = crate::support::image("layer").to_string();
    for (name, sent) in [
        ("anonymous", None),
        ("alice", Some(basic("alice", "wonderland"))),
        ("admin", Some(basic("admin", TOKEN))),
    ] {
        let mut request = registry.request(Method::PUT, &format!("/v2/a/manifests/by-{name}"));
        request = request.header("content-type", IMAGE).body(text.clone());
        if let Some(sent) = sent {
            request = request.header("authorization", sent);
        }
        assert_eq!(request.send().await.unwrap().status(), 201);
        let row = metadata.local().tag(&"a".parse().unwrap(), &format!("by-{name}").parse().unwrap());
        assert_eq!(row.unwrap().unwrap().by, name);
    }
}
