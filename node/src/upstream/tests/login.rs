//! Basic and tokens: who is shown what, and who is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::response::Response;
use base64::Engine as _;

use super::fake::{Fake, Seen, host_named, manifest, name, settled, settled_with, status, tag, with};
use crate::upstream::{HostSettings, UpstreamError};

const BODY: &str = "{\"schemaVersion\":2}";
const LOGIN: &str = r#"{"auths": {"registry.test": {"username": "user", "password": "hunter2"}}}"#;
const IDENTITY: &str = r#"{"auths": {"registry.test": {"identitytoken": "hunter2"}}}"#;

/// A registry and its token service on one port; `realm` says where the service is otherwise.
fn registry(
    realm: Option<String>,
    token: impl Fn(&Seen) -> Response + Send + Sync + 'static,
) -> impl Fn(Seen) -> Response + Send + Sync {
    move |seen| {
        if seen.path == "/token" {
            return token(&seen);
        }
        let repo = seen.path.split('/').nth(2).unwrap().to_owned();
        if seen.header("authorization") == format!("Bearer for-{repo}") {
            return manifest(BODY);
        }
        let realm = realm.clone().unwrap_or_else(|| format!("http://{}/token", seen.header("host")));
        let challenge =
            format!("Bearer realm=\"{realm}\",service=\"the service\",scope=\"repository:{repo}:pull,push\"");
        with(401, &[("www-authenticate", &challenge)], "")
    }
}

/// A token for the repository of the scope.
fn grant(seen: &Seen) -> Response {
    let scope = seen.query.split("scope=repository%3A").nth(1).unwrap();
    let repo = scope.split("%3A").next().unwrap();
    with(200, &[], format!("{{\"token\":\"for-{repo}\",\"expires_in\":300}}"))
}

fn denied(error: &UpstreamError) {
    assert!(matches!(error, UpstreamError::Denied(_)), "{error:?}");
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_for_pulling_alone() {
    let fake = Fake::start(registry(None, grant)).await;
    let registries = fake.registries();
    let (app, one) = (name("app"), tag("1"));
    let ask = || registries.manifest(&app, &one);
    let (a, b, c) = tokio::join!(ask(), ask(), ask());
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    registries.manifest(&name("other"), &one).await.unwrap();
    let asked = fake.asked();
    let tokens: Vec<_> = fake.seen().into_iter().filter(|seen| seen.path == "/token").collect();
    assert_eq!(tokens.len(), 2, "{asked:?}");
    assert_eq!(tokens[0].query, "scope=repository%3Aapp%3Apull&service=the+service");
    assert!(tokens.iter().all(|seen| seen.header("authorization").is_empty()));
    // What the registry wants is known by then.
    assert_eq!(asked[asked.len() - 2..], ["GET /token", "GET /v2/other/manifests/1"]);
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    let (count, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, said) = (count.clone(), told.clone());
    let fake = Fake::start(move |seen| {
        if seen.path == "/token" {
            let n = counted.fetch_add(1, Ordering::SeqCst);
            return with(200, &[], format!("{{\"access_token\":\"t{n}\"}}"));
        }
        if seen.header("authorization") == format!("Bearer t{}", said.load(Ordering::SeqCst)) {
            return manifest(BODY);
        }
        with(
            401,
            &[("www-authenticate", &format!("Bearer realm=\"http://{}/token\"", seen.header("host")))],
            "",
        )
    })
    .await;
    let registries = fake.registries();
    registries.manifest(&name("app"), &tag("1")).await.unwrap();
    told.store(1, Ordering::SeqCst);
    registries.manifest(&name("app"), &tag("1")).await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 2);
    told.store(9, Ordering::SeqCst);
    denied(&registries.manifest(&name("app"), &tag("1")).await.unwrap_err());
    assert_eq!(count.load(Ordering::SeqCst), 3, "not again and again");
}

#[tokio::test]
async fn credentials_buy_tokens_of_the_registrys_own_service() {
    let fake = Fake::start(registry(None, |seen| match seen.header("authorization") {
        "" => status(401),
        _ => grant(seen),
    }))
    .await;
    settled(&fake, LOGIN).manifest(&name("app"), &tag("1")).await.unwrap();
    let basic = base64::engine::general_purpose::STANDARD.encode("user:hunter2");
    let token = fake.seen().into_iter().find(|seen| seen.path == "/token").unwrap();
    assert_eq!(token.header("authorization"), format!("Basic {basic}"));
    let error = fake.registries().manifest(&name("app"), &tag("1")).await.unwrap_err();
    assert!(
        matches!(&error, UpstreamError::Unavailable { why, .. } if why.contains("token service")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_in_a_form() {
    let fake = Fake::start(registry(None, |seen| {
        let form = "scope=repository%3Aapp%3Apull&service=the+service&grant_type=refresh_token&client_id=trow&refresh_token=hunter2";
        assert_eq!((seen.method.as_str(), seen.body.as_str(), seen.query.as_str()), ("POST", form, ""));
        with(200, &[], "{\"access_token\":\"for-app\"}")
    }))
    .await;
    settled(&fake, IDENTITY).manifest(&name("app"), &tag("1")).await.unwrap();
}

#[tokio::test]
async fn a_realm_elsewhere_gets_no_credentials() {
    let attacker = Fake::start(|seen| grant(&seen)).await;
    let elsewhere = format!("http://{}/token", attacker.address);
    for realm in [
        elsewhere.clone(),
        "http://169.254.169.254/token".to_owned(),
        "ftp://127.0.0.1/token".to_owned(),
        format!("http://user:password@{}/token", attacker.address),
        "nonsense".to_owned(),
    ] {
        let fake = Fake::start(registry(Some(realm.clone()), grant)).await;
        for login in [LOGIN, IDENTITY] {
            let error = settled(&fake, login).manifest(&name("app"), &tag("1")).await.unwrap_err();
            assert!(matches!(error, UpstreamError::Bad(_)), "{realm}: {error:?}");
            assert!(!error.to_string().contains("hunter2"));
        }
        assert_eq!(fake.asked(), ["GET /v2/app/manifests/1", "GET /v2/app/manifests/1"]);
    }
    assert_eq!(attacker.asked(), Vec::<String>::new());
    // Who has nothing to lose asks it; and who was told to trust it shows what it has.
    let fake = Fake::start(registry(Some(elsewhere), grant)).await;
    fake.registries().manifest(&name("app"), &tag("1")).await.unwrap();
    assert_eq!(attacker.seen()[0].header("authorization"), "");
    let trusting = HostSettings { realms: vec![attacker.address.to_string()], ..fake.settings() };
    settled_with(trusting, LOGIN).manifest(&name("app"), &tag("1")).await.unwrap();
    assert!(attacker.seen()[1].header("authorization").starts_with("Basic "));
}

#[tokio::test]
async fn a_plain_realm_is_none_for_a_registry_of_https() {
    // What is private may be asked; what is plain may not, since nothing says that this is meant.
    let fake = Fake::start(registry(None, grant)).await;
    let plain = HostSettings { insecure: false, ..fake.settings() };
    let error = settled_with(plain, LOGIN).manifest(&name("app"), &tag("1")).await.unwrap_err();
    assert!(matches!(&error, UpstreamError::Bad(why) if why.contains("no https address")), "{error:?}");
}

#[tokio::test]
async fn a_token_service_that_fails_is_no_answer_about_the_image() {
    for (code, expected) in
        [(401, "Unavailable"), (403, "Denied"), (429, "Unavailable"), (500, "Unavailable"), (302, "Bad")]
    {
        let fake = Fake::start(registry(None, move |_| with(code, &[("location", "/elsewhere")], ""))).await;
        let error = fake.registries().manifest(&name("app"), &tag("1")).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{code}: {error:?}");
    }
    for answer in ["", "{}", "{\"token\":\"\"}", "{\"token\":\"a\\nb\"}", "[]"] {
        let fake = Fake::start(registry(None, move |_| with(200, &[], answer))).await;
        let error = fake.registries().manifest(&name("app"), &tag("1")).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Bad(_)), "{answer}: {error:?}");
    }
}

#[tokio::test]
async fn a_password_is_shown_to_who_asks_for_one_and_belongs_to_its_repositories() {
    let fake = Fake::start(|seen| match seen.header("authorization") {
        "" => with(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
        _ => manifest(BODY),
    })
    .await;
    let file = r#"{"auths": {"registry.test/team": {"username": "user", "password": "hunter2"}}}"#;
    let registries = settled(&fake, file);
    for _ in 0..2 {
        registries.manifest(&name("team/app"), &tag("1")).await.unwrap();
    }
    assert_eq!(fake.asked().len(), 3, "known by the second time");
    denied(&registries.manifest(&name("teams/app"), &tag("1")).await.unwrap_err());
    assert!(registries.rules(&name("team/app")).needs_user);
    assert!(!registries.rules(&name("teams/app")).needs_user);
    let public = settled_with(HostSettings { public: true, ..fake.settings() }, file);
    assert!(!public.rules(&name("team/app")).needs_user);
    let elsewhere =
        trow_api::pull::UpstreamName::new(host_named("quay.io"), &"team/app".parse().unwrap()).unwrap();
    assert!(!registries.rules(&elsewhere).needs_user);
}
