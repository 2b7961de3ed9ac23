//! Signatures that cosign made, found in our own repositories and through the cache, and what is remembered of them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use trow_api::Settings;
use trow_api::policy::Fact;
use trow_api::pull::memory::Repo;
use trow_api::pull::{PullError, Relayed, UpstreamName};
use trow_api::signature::{PublicKey, Purpose, Repository, Verifier};
use trow_raft::{Command, Digest, Outcome, command};

use crate::reviews;
use crate::support::{BOUND, IMAGE, INDEX, Registry};
use crate::webhook::{self, Webhook};

macro_rules! cosign {
    ($name:literal) => {
        include_str!(concat!("../../src/signature/fixtures/cosign/", $name))
    };
}

const APP: &str = "sha256:4237388315cd7baef43f2500fdf0d47c08549764b6ceb30f5cd3c6356e219063";
/// Its only child.
const CHILD: &str = "sha256:1391102ecf67c55d38e33c253b46ff1ad938d882fb37c77983cad3fe4859c127";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// The signature in the newer form, by the key `ecdsa`.
const REFERRER: &str = cosign!("app.ecdsa-p256.manifest.json");

fn app() -> Digest {
    APP.parse().unwrap()
}

fn key(pem: &str) -> PublicKey {
    PublicKey::from_pem(pem).unwrap()
}

async fn started() -> (Registry, Verifier) {
    let registry = Registry::with(Settings { sparse: true, ..Settings::default() }).await;
    let verifier =
        Verifier::new(registry.metadata.clone(), registry.blobs.clone(), registry.upstreams.clone());
    (registry, verifier)
}

/// Which of the keys `ecdsa` and `rsa` signed the image, by a policy of this revision.
async fn by_both(verifier: &Verifier, at: &Repository, revision: u64) -> Fact<Vec<String>> {
    let (ecdsa, rsa) = (key(cosign!("ecdsa-p256.pub")), key(cosign!("rsa-2048.pub")));
    verifier.signed_by(Purpose::Run, at, &app(), revision, &[("ecdsa", &ecdsa), ("rsa", &rsa)]).await
}

fn known(names: &[&str]) -> Fact<Vec<String>> {
    Fact::Known(names.iter().map(|name| (*name).to_owned()).collect())
}

fn why(fact: Fact<Vec<String>>) -> String {
    match fact {
        Fact::Unknown(why) => why,
        fact => panic!("{fact:?}"),
    }
}

fn own() -> Repository {
    Repository::Own("acme/app".parse().unwrap())
}

fn name() -> UpstreamName {
    UpstreamName::new("registry.example.com".parse().unwrap(), &"acme/app".parse().unwrap()).unwrap()
}

fn tag() -> String {
    format!("{}.sig", APP.replace(':', "-"))
}

async fn put(registry: &Registry, reference: &str, manifest: &str) {
    let response = registry.put_manifest("acme/app", reference, IMAGE, manifest).await;
    assert_eq!(response.status(), 201, "{}", response.text().await.unwrap());
}

fn descriptor(manifest: &str, annotations: Value) -> Value {
    json!({
        "mediaType": IMAGE, "digest": Digest::sha256(manifest.as_bytes()), "size": manifest.len(),
        "artifactType": BUNDLE, "annotations": annotations,
    })
}

fn list(of: &[Value]) -> Relayed {
    let json = json!({ "schemaVersion": 2, "manifests": of }).to_string().into();
    Relayed { json, next: None, filtered: false, stale: None }
}

fn with(repo: &mut Repo, manifest: &str, blob: &str) {
    repo.manifests.insert(Digest::sha256(manifest.as_bytes()), (IMAGE.into(), manifest.to_owned().into()));
    repo.blobs.insert(Digest::sha256(blob.as_bytes()), blob.to_owned().into());
}

/// An upstream's repository with the image's signatures in both forms.
fn upstream(tagged: bool, referred: bool) -> Repo {
    let mut repo = Repo { referrers: Some(list(&[])), ..Repo::default() };
    if tagged {
        let manifest = cosign!("app.sig.json");
        with(&mut repo, manifest, cosign!("app.payload.json"));
        repo.tags.insert(tag().parse().unwrap(), Digest::sha256(manifest.as_bytes()));
    }
    if referred {
        with(&mut repo, REFERRER, cosign!("app.ecdsa-p256.bundle.json"));
        repo.referrers = Some(list(&[descriptor(REFERRER, json!({ "a": "b" }))]));
    }
    repo
}

#[tokio::test]
async fn an_image_counts_as_signed_soon_after_it_is() {
    let (registry, verifier) = started().await;
    assert_eq!(by_both(&verifier, &own(), 0).await, known(&[]));
    registry.push_blob("acme/app", cosign!("app.ecdsa-p256.bundle.json").as_bytes()).await;
    put(&registry, &Digest::sha256(REFERRER.as_bytes()).to_string(), REFERRER).await;
    let began = Instant::now();
    while by_both(&verifier, &own(), 0).await != known(&["ecdsa"]) {
        assert!(began.elapsed() < BOUND, "the refusal is not forgotten");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Another repository has no signature, and another key made none.
    let other = Repository::Own("acme/copy".parse().unwrap());
    assert_eq!(by_both(&verifier, &other, 0).await, known(&[]));
    let stranger = key(cosign!("other-key.pub"));
    assert_eq!(
        verifier.signed_by(Purpose::Run, &own(), &app(), 0, &[("ecdsa", &stranger)]).await,
        known(&[])
    );
}

#[tokio::test]
async fn under_the_tag_are_the_signatures_of_several_keys() {
    let (registry, verifier) = started().await;
    put(&registry, &tag(), cosign!("app.sig.json")).await;
    // The payload is not there: it is named, but nobody pushed it.
    assert_eq!(by_both(&verifier, &own(), 0).await, known(&[]));
    registry.push_blob("acme/app", cosign!("app.payload.json").as_bytes()).await;
    assert_eq!(by_both(&verifier, &own(), 1).await, known(&["ecdsa", "rsa"]));
}

#[tokio::test]
async fn signatures_of_an_upstream_are_found_in_both_forms() {
    for (tagged, referred, expected) in [
        (true, false, known(&["ecdsa", "rsa"])),
        (false, true, known(&["ecdsa"])),
        (true, true, known(&["ecdsa", "rsa"])),
        (false, false, known(&[])),
    ] {
        let (registry, verifier) = started().await;
        registry.upstreams.put(name(), upstream(tagged, referred));
        assert_eq!(by_both(&verifier, &Repository::Upstream(name()), 0).await, expected);
    }
}

#[tokio::test]
async fn many_who_ask_at_once_are_one_look() {
    let (registry, verifier) = started().await;
    registry.upstreams.put(name(), upstream(true, true));
    let at = Repository::Upstream(name());
    let asked = futures::future::join_all((0..50).map(|_| by_both(&verifier, &at, 0))).await;
    assert!(asked.iter().all(|fact| *fact == known(&["ecdsa", "rsa"])));
    let asked = registry.upstreams.asked();
    let lists = asked.iter().filter(|line| line.starts_with("referrers "));
    assert_eq!((lists.count(), asked.len()), (1, 5), "{asked:?}");
}

#[tokio::test]
async fn what_cannot_be_read_is_unknown_unless_a_signature_is_found() {
    let gone = PullError::Unavailable { why: "upstream is down".into(), retry: Duration::from_secs(5) };
    let (registry, verifier) = started().await;
    let at = Repository::Upstream(name());
    registry.upstreams.put(name(), Repo { fails: Some(gone), ..upstream(true, true) });
    assert_eq!(why(by_both(&verifier, &at, 0).await), "upstream is down");
    // A list that is not whole, without a signature on it, and then with one.
    let stale = |repo: Repo| {
        let listed = Relayed { stale: Some("upstream is old".into()), ..repo.referrers.clone().unwrap() };
        Repo { referrers: Some(listed), ..repo }
    };
    registry.upstreams.put(name(), stale(upstream(false, false)));
    assert_eq!(why(by_both(&verifier, &at, 1).await), "upstream is old");
    registry.upstreams.put(name(), stale(upstream(false, true)));
    assert_eq!(by_both(&verifier, &at, 2).await, known(&["ecdsa"]));
    let broken = Repo { breaks: Some((10, Some(std::io::ErrorKind::TimedOut))), ..upstream(true, false) };
    registry.upstreams.put(name(), broken);
    assert!(why(by_both(&verifier, &at, 3).await).contains("broke off"));
    // A blob that is longer or shorter than it should be is no signature.
    let mut other = upstream(false, true);
    let bundle = Digest::sha256(cosign!("app.ecdsa-p256.bundle.json").as_bytes());
    other.blobs.insert(bundle, Bytes::from_static(b"{}"));
    registry.upstreams.put(name(), other);
    assert_eq!(by_both(&verifier, &at, 4).await, known(&[]));
    let garbage = Relayed { json: "[1]".into(), ..list(&[]) };
    registry.upstreams.put(name(), Repo { referrers: Some(garbage), ..upstream(false, false) });
    assert!(why(by_both(&verifier, &at, 5).await).contains("cannot be read"));
}

#[tokio::test]
async fn no_more_than_so_many_signatures_are_looked_at() {
    let (registry, verifier) = started().await;
    let at = Repository::Upstream(name());
    let other = cosign!("other.ecdsa-p256.manifest.json");
    let mut repo = upstream(false, true);
    with(&mut repo, other, cosign!("other.ecdsa-p256.bundle.json"));
    let junk: Vec<Value> = (0..500).map(|_| descriptor(other, json!({}))).collect();
    let last = [junk.as_slice(), &[descriptor(REFERRER, json!({}))]].concat();
    repo.referrers = Some(list(&last));
    registry.upstreams.put(name(), repo.clone());
    assert!(why(by_both(&verifier, &at, 0).await).contains("more signatures than the 64"));
    let looked_at = registry.upstreams.asked().iter().filter(|line| line.starts_with("blob ")).count();
    assert_eq!(looked_at, 64);
    // Attestations that say so are not among those.
    let built = json!({ "dev.sigstore.bundle.predicateType": "https://example.com/built" });
    let signed = json!({ "dev.sigstore.bundle.predicateType": SIGN });
    let attested: Vec<Value> = (0..500).map(|_| descriptor(other, built.clone())).collect();
    repo.referrers = Some(list(&[attested.as_slice(), &[descriptor(REFERRER, signed)]].concat()));
    registry.upstreams.put(name(), repo);
    assert_eq!(by_both(&verifier, &at, 1).await, known(&["ecdsa"]));
}

/// Sets a policy; its revision.
async fn set_policy(registry: &Registry, document: &'static str) -> u64 {
    let document = Bytes::from_static(document.as_bytes());
    let applied =
        registry.metadata.propose("test", Command::SetPolicy { base: None, document }).await.unwrap();
    assert_eq!(applied.outcome, Outcome::Done);
    applied.index
}

#[tokio::test]
async fn a_signature_that_was_seen_stays_known_until_the_policy_changes() {
    let (registry, verifier) = started().await;
    let level = Command::SetLevel { level: command::LEVEL };
    assert_eq!(registry.metadata.propose("test", level).await.unwrap().outcome, Outcome::Done);
    let at = Repository::Upstream(name());
    registry.upstreams.put(name(), upstream(false, true));
    let revision = set_policy(&registry, "version: 1\n").await;
    assert_eq!(by_both(&verifier, &at, revision).await, known(&["ecdsa"]));
    let agreed = || registry.metadata.local().verdict(&app()).unwrap();
    let began = Instant::now();
    while agreed().is_none() {
        assert!(began.elapsed() < BOUND, "no verdict is agreed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(agreed(), Some(vec!["ecdsa".to_owned()]));

    // The upstream is gone, and whoever asks has never looked: only what was agreed says so.
    let gone = PullError::Unavailable { why: "upstream is down".into(), retry: Duration::from_secs(5) };
    registry.upstreams.put(name(), Repo { fails: Some(gone), ..Repo::default() });
    let late = Verifier::new(registry.metadata.clone(), registry.blobs.clone(), registry.upstreams.clone());
    assert_eq!(by_both(&late, &at, revision).await, known(&["ecdsa"]));
    // It says nothing of a key that is not asked for, nor of another policy's.
    let stranger = key(cosign!("rsa-2048.pub"));
    let other = late.signed_by(Purpose::Run, &at, &app(), revision, &[("rsa", &stranger)]).await;
    assert_eq!(why(other), "upstream is down");
    assert_eq!(why(by_both(&late, &at, revision - 1).await), "upstream is down");
    let next = set_policy(&registry, "version: 1\nmode: warn\n").await;
    assert_eq!(why(by_both(&late, &at, next).await), "upstream is down");
}

fn signed_by(pem: &str) -> String {
    let allow = json!([{ "image": "**", "signedBy": ["acme-release"] }]);
    json!({ "version": 1, "default": "deny", "allow": allow, "keys": { "acme-release": pem } }).to_string()
}

#[tokio::test]
async fn a_rule_lets_in_what_its_key_signed() {
    let (registry, _) = started().await;
    let webhook = Webhook::start(&registry).await;
    let mut repo = upstream(true, false);
    repo.tags.insert("v1".parse().unwrap(), app());
    repo.manifests.insert(app(), (INDEX.into(), "{}".into()));
    registry.upstreams.put(name(), repo);
    webhook::set_policy(&registry, &signed_by(cosign!("rsa-2048.pub"))).await;
    let ours = reviews::of_image(&format!("trow.test/acme/app@{APP}"));
    for theirs in ["registry.example.com/acme/app:v1", &format!("registry.example.com/acme/app:v1@{APP}")] {
        assert_eq!(webhook.validate(&reviews::of_image(theirs)).await, None, "{theirs}");
    }
    let unsigned = webhook.validate(&reviews::of_image("registry.example.com/acme/app:v2")).await.unwrap();
    assert!(
        unsigned.contains("whether it is signed could not be found out: there is no such image"),
        "{unsigned}"
    );

    webhook::set_policy(&registry, &signed_by(cosign!("ecdsa-p256.pub"))).await;
    let denied = webhook.validate(&ours).await.unwrap();
    assert!(denied.contains("it has no signature by acme-release"), "{denied}");
    registry.push_blob("acme/app", cosign!("app.ecdsa-p256.bundle.json").as_bytes()).await;
    put(&registry, &Digest::sha256(REFERRER.as_bytes()).to_string(), REFERRER).await;
    let began = Instant::now();
    while webhook.validate(&ours).await.is_some() {
        assert!(began.elapsed() < BOUND, "what is signed is not let in");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Another key by the same name made none of its signatures.
    webhook::set_policy(
        &registry,
        &signed_by(include_str!("../../src/signature/fixtures/keys/rsa-4096.pem")),
    )
    .await;
    for image in [&format!("trow.test/acme/app@{APP}"), "registry.example.com/acme/app:v1"] {
        let denied = webhook.validate(&reviews::of_image(image)).await.unwrap();
        assert!(denied.contains("it has no signature by acme-release"), "{denied}");
    }
}

#[tokio::test]
async fn a_dry_run_is_decided_alike_and_writes_nothing() {
    let (registry, _) = started().await;
    let level = Command::SetLevel { level: command::LEVEL };
    assert_eq!(registry.metadata.propose("test", level).await.unwrap().outcome, Outcome::Done);
    let webhook = Webhook::start(&registry).await;
    let (mut repo, manifest) = (upstream(false, true), cosign!("child.ecdsa-p256.manifest.json"));
    with(&mut repo, manifest, cosign!("child.ecdsa-p256.bundle.json"));
    repo.referrers = Some(list(&[descriptor(REFERRER, json!({})), descriptor(manifest, json!({}))]));
    registry.upstreams.put(name(), repo);
    webhook::set_policy(&registry, &signed_by(cosign!("ecdsa-p256.pub"))).await;
    let of = |image: &str| reviews::of_image(&format!("registry.example.com/acme/app@{image}"));
    let mut tried = of(APP);
    tried["request"]["dryRun"] = true.into();
    assert_eq!(webhook.validate(&tried).await, None);
    assert_eq!(webhook.validate(&of(CHILD)).await, None);
    // What came of the dry run would have been proposed before.
    let began = Instant::now();
    while registry.metadata.local().verdict(&CHILD.parse().unwrap()).unwrap().is_none() {
        assert!(began.elapsed() < BOUND, "no verdict is agreed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(registry.metadata.local().verdict(&app()).unwrap(), None);
}

#[tokio::test]
async fn a_rule_lets_in_what_its_key_signed_and_nothing_else() {
    let (registry, _) = started().await;
    let webhook = Webhook::start(&registry).await;
    // Under the tag are signatures by more keys.
    registry.upstreams.put(name(), upstream(false, true));
    let policy = |pem: &str| {
        let allow = json!([{ "image": "registry.example.com/**", "signedBy": ["release"] }]);
        json!({ "version": 1, "default": "deny", "allow": allow, "keys": { "release": pem } }).to_string()
    };
    let direct = reviews::of_image(&format!("registry.example.com/acme/app@{APP}"));
    let through = reviews::of_image(&format!("trow.test/f/registry.example.com/acme/app@{APP}"));
    webhook::set_policy(&registry, &policy(cosign!("ecdsa-p256.pub"))).await;
    assert_eq!(webhook.validate(&direct).await, None);
    assert_eq!(webhook.validate(&through).await, None);
    let other = Digest::sha256(b"not what was signed");
    let unsigned = reviews::of_image(&format!("registry.example.com/acme/app@{other}"));
    let message = webhook.validate(&unsigned).await.expect("what nobody signed is let in");
    assert!(message.contains("denied by allow[0]") && message.contains("release"), "{message}");

    webhook::set_policy(&registry, &policy(cosign!("other-key.pub"))).await;
    for review in [&direct, &through] {
        let message = webhook.validate(review).await.expect("the signature of another key counts");
        assert!(message.contains("no signature by release"), "{message}");
    }
}

/// What is remembered of an image is remembered by its digest, and never by a tag.
#[tokio::test]
async fn a_tag_that_was_moved_is_judged_by_what_it_stands_for_now() {
    let (registry, _) = started().await;
    let webhook = Webhook::start(&registry).await;
    let other = Digest::sha256(b"[]");
    let tagged = |digest: Digest| {
        let mut repo = upstream(true, false);
        repo.tags.insert("v1".parse().unwrap(), digest);
        repo.manifests.insert(app(), (INDEX.into(), "{}".into()));
        repo.manifests.insert(other, (INDEX.into(), "[]".into()));
        repo
    };
    registry.upstreams.put(name(), tagged(app()));
    webhook::set_policy(&registry, &signed_by(cosign!("rsa-2048.pub"))).await;
    let by_tag = reviews::of_image("registry.example.com/acme/app:v1");
    let pinned = reviews::of_image(&format!("registry.example.com/acme/app:v1@{APP}"));
    for review in [&by_tag, &pinned] {
        assert_eq!(webhook.validate(review).await, None);
    }
    registry.upstreams.put(name(), tagged(other));
    let message = webhook.validate(&by_tag).await.expect("what was moved there is let in");
    assert!(message.contains("it has no signature by acme-release"), "{message}");
    assert_eq!(webhook.validate(&pinned).await, None, "what was judged is what runs");

    // Whoever trusts the tag besides has that seen as well.
    let allow = json!([{ "image": "**", "require": ["resolves"] }]);
    webhook::set_policy(&registry, &json!({ "version": 1, "allow": allow }).to_string()).await;
    let message = webhook.validate(&pinned).await.expect("the tag stands for another image");
    assert!(message.contains(&format!("its tag v1 stands for {other} now")), "{message}");
    assert_eq!(webhook.validate(&by_tag).await, None);
}
