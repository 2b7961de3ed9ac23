//! Signatures that the real cosign made, and what becomes of them when anything about them changes.

use serde_json::{Value, json};
use trow_raft::Digest;

use super::*;

macro_rules! cosign {
    ($name:literal) => {
        include_str!(concat!("fixtures/cosign/", $name))
    };
}

/// An index, its only child, and an index of another repository.
const APP: &str = "sha256:4237388315cd7baef43f2500fdf0d47c08549764b6ceb30f5cd3c6356e219063";
const CHILD: &str = "sha256:1391102ecf67c55d38e33c253b46ff1ad938d882fb37c77983cad3fe4859c127";
const OTHER: &str = "sha256:c14b1b5aa4dd8727cfda6f44f540ad008e8a8136cf33aee140510d8ab8a2bf13";

/// The keys, and what each made of the index.
const BUNDLES: [(&str, &str, &str); 5] = [
    ("ecdsa-p256", cosign!("app.ecdsa-p256.bundle.json"), cosign!("app.ecdsa-p256.manifest.json")),
    ("ed25519", cosign!("app.ed25519.bundle.json"), cosign!("app.ed25519.manifest.json")),
    ("rsa-2048", cosign!("app.rsa-2048.bundle.json"), cosign!("app.rsa-2048.manifest.json")),
    ("ecdsa-p384", cosign!("app.ecdsa-p384.bundle.json"), cosign!("app.ecdsa-p384.manifest.json")),
    ("other-key", cosign!("app.other-key.bundle.json"), cosign!("app.other-key.manifest.json")),
];

fn digest(text: &str) -> Digest {
    text.parse().unwrap()
}

fn keys() -> Vec<(&'static str, PublicKey)> {
    [
        ("ecdsa-p256", cosign!("ecdsa-p256.pub")),
        ("ed25519", cosign!("ed25519.pub")),
        ("rsa-2048", cosign!("rsa-2048.pub")),
        ("ecdsa-p384", cosign!("ecdsa-p384.pub")),
        ("other-key", cosign!("other-key.pub")),
    ]
    .map(|(name, pem)| (name, PublicKey::from_pem(pem).unwrap()))
    .into()
}

/// A blob as a manifest names it that does not lie about it.
fn named(bytes: &[u8]) -> Named {
    Named { digest: Digest::sha256(bytes), size: bytes.len() as u64 }
}

/// The keys that made it.
fn by(signed: Result<Signed, NotOne>) -> Result<Vec<&'static str>, NotOne> {
    let Signed { message, signature } = signed?;
    let made = |key: &PublicKey| key.verifies(&message, &signature);
    Ok(keys().into_iter().filter(|(_, key)| made(key)).map(|(name, _)| name).collect())
}

fn by_bundle(bundle: &str, image: &str) -> Result<Vec<&'static str>, NotOne> {
    by(bundle::signed(bundle.as_bytes(), &named(bundle.as_bytes()), &digest(image)))
}

fn by_payload(payload: &str, signature: &[u8], image: &str) -> Result<Vec<&'static str>, NotOne> {
    by(simple::signed(payload.as_bytes(), &named(payload.as_bytes()), signature, &digest(image)))
}

#[test]
fn a_bundle_is_its_keys_signature_and_no_other_keys() {
    for (key, bundle, manifest) in BUNDLES {
        let found = bundle::content(manifest.as_bytes()).unwrap();
        assert_eq!(found, named(bundle.as_bytes()), "{key}");
        assert_eq!(by_bundle(bundle, APP), Ok(vec![key]));
    }
    assert_eq!(by_bundle(cosign!("child.ecdsa-p256.bundle.json"), CHILD), Ok(vec!["ecdsa-p256"]));
}

#[test]
fn a_layer_under_the_tag_is_its_keys_signature_and_no_other_keys() {
    let payload = cosign!("app.payload.json");
    let listed = simple::signatures(cosign!("app.sig.json").as_bytes()).unwrap();
    let found: Vec<_> = listed
        .signatures
        .iter()
        .map(|(found, signature)| {
            assert_eq!(*found, named(payload.as_bytes()));
            by_payload(payload, signature, APP).unwrap()
        })
        .collect();
    let latest_first = ["other-key", "ecdsa-p384", "rsa-2048", "ed25519", "ecdsa-p256"];
    assert_eq!(found, latest_first.map(|key| vec![key]));
    assert!(!listed.more);
    assert_eq!(simple::tag(&digest(APP)).unwrap().as_str(), format!("{}.sig", APP.replace(':', "-")));
    // 128 digits do not fit a tag.
    assert_eq!(simple::tag(&Digest::of(trow_raft::Algorithm::Sha512, b"")), None);
}

#[test]
fn a_signature_of_another_image_is_none() {
    let elsewhere = Err(NotOne("the statement is about another image"));
    for bundle in [cosign!("other.ecdsa-p256.bundle.json"), cosign!("child.ecdsa-p256.bundle.json")] {
        assert_eq!(by_bundle(bundle, APP), elsewhere);
    }
    // An index is signed, and not what it lists.
    assert_eq!(by_bundle(BUNDLES[0].1, CHILD), elsewhere);
    assert_eq!(by_bundle(BUNDLES[0].1, OTHER), elsewhere);

    let elsewhere = Err(NotOne("the payload is about another image"));
    for (payload, sig) in [
        (cosign!("other.payload.json"), cosign!("other.sig.json")),
        (cosign!("child.payload.json"), cosign!("child.sig.json")),
    ] {
        let listed = simple::signatures(sig.as_bytes()).unwrap();
        assert_eq!(by_payload(payload, &listed.signatures[0].1, APP), elsewhere);
        let own = if payload.contains(OTHER) { OTHER } else { CHILD };
        assert_eq!(by_payload(payload, &listed.signatures[0].1, own), Ok(vec!["ecdsa-p256"]));
        // One image's signature beside the other's payload.
        assert_eq!(by_payload(cosign!("app.payload.json"), &listed.signatures[0].1, APP), Ok(vec![]));
    }
}

#[test]
fn an_attestation_is_no_signature() {
    let (manifest, bundle) =
        (cosign!("app.attestation.manifest.json"), cosign!("app.attestation.bundle.json"));
    assert_eq!(bundle::content(manifest.as_bytes()), Err(NotOne("the manifest is of an attestation")));
    // Nor is it one if the manifest says that it is.
    let lying = manifest.replace("https://example.com/built", "https://sigstore.dev/cosign/sign/v1");
    assert_eq!(bundle::content(lying.as_bytes()), Ok(named(bundle.as_bytes())));
    assert_eq!(by_bundle(bundle, APP), Err(NotOne("the statement is an attestation")));
}

/// The bundle with something else in it.
fn changed(bundle: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut value: Value = serde_json::from_str(bundle).unwrap();
    change(&mut value);
    value.to_string()
}

fn envelope_of(bundle: &str) -> String {
    let value: Value = serde_json::from_str(bundle).unwrap();
    value["dsseEnvelope"].to_string()
}

fn with_statement(bundle: &str, change: impl FnOnce(String) -> String) -> String {
    use ::base64::Engine as _;
    use ::base64::engine::general_purpose::STANDARD;
    changed(bundle, |bundle| {
        let payload = &mut bundle["dsseEnvelope"]["payload"];
        let statement = String::from_utf8(STANDARD.decode(payload.as_str().unwrap()).unwrap()).unwrap();
        *payload = STANDARD.encode(change(statement)).into();
    })
}

#[test]
fn a_bundle_counts_only_as_it_was_made() {
    let good = BUNDLES[0].1;
    let hex = |image: &str| image["sha256:".len()..].to_owned();
    let envelope = |key: &'static str, value: Value| changed(good, |b| b["dsseEnvelope"][key] = value);
    // Written in another way, with a hint of another key, it says the same.
    assert_eq!(by_bundle(&changed(good, |_| ()), APP), Ok(vec!["ecdsa-p256"]));
    let hinted = changed(good, |b| b["verificationMaterial"]["publicKey"]["hint"] = "other".into());
    assert_eq!(by_bundle(&hinted, APP), Ok(vec!["ecdsa-p256"]));

    // The bytes that are signed were changed: nobody signed them.
    let moved = with_statement(good, |statement| statement.replace(&hex(APP), &hex(OTHER)));
    assert_eq!(by_bundle(&moved, OTHER), Ok(vec![]));
    assert_eq!(by_bundle(&with_statement(good, |statement| statement + " "), APP), Ok(vec![]));
    let attested = cosign!("app.attestation.bundle.json");
    let renamed = with_statement(attested, |statement| {
        let statement = statement.replace("https://example.com/built", "https://sigstore.dev/cosign/sign/v1");
        statement.replace("Statement/v0.1", "Statement/v1")
    });
    assert_eq!(by_bundle(&renamed, APP), Ok(vec![]));
    // The signature of another key, or of no key's form.
    for (_, other, _) in &BUNDLES[1..4] {
        let other: Value = serde_json::from_str(other).unwrap();
        let swapped = envelope("signatures", other["dsseEnvelope"]["signatures"].clone());
        let made = by_bundle(&swapped, APP).unwrap();
        assert!(made.len() == 1 && made[0] != "ecdsa-p256", "{made:?}");
    }
    assert_eq!(by_bundle(&envelope("signatures", json!([{ "sig": "" }])), APP), Ok(vec![]));

    let signature = json!({ "sig": "AAAA" });
    let statement = |from: &'static str, to: &'static str| {
        with_statement(good, move |statement| {
            assert!(statement.contains(from), "{statement}");
            statement.replace(from, to)
        })
    };
    let deep = format!("{{\"a\":{}{},{}", "[".repeat(200), "]".repeat(200), &good[1..]);
    for (bundle, why) in [
        (String::new(), "the bundle is not JSON with each key once"),
        (good[..good.len() - 1].to_owned(), "the bundle is not JSON with each key once"),
        (deep, "the bundle is not JSON with each key once"),
        (good.replacen('{', "{\"mediaType\":\"x\",", 1), "the bundle is not JSON with each key once"),
        ("[]".to_owned(), "the bundle has no envelope"),
        // A list of an object's values is no object.
        (format!("[\"{}\",{}]", bundle::BUNDLE, envelope_of(good)), "the bundle has no envelope"),
        (changed(good, |b| b["dsseEnvelope"] = Value::Null), "the bundle has no envelope"),
        (envelope("signatures", json!("AAAA")), "the bundle has no envelope"),
        (changed(good, |b| b["mediaType"] = "text/plain".into()), "the bundle is of another type"),
        (envelope("payloadType", json!("application/json")), "the envelope's payload is of another type"),
        (envelope("signatures", json!([])), "the envelope has not one signature"),
        (envelope("signatures", json!([signature, signature])), "the envelope has not one signature"),
        (envelope("signatures", json!([{ "sig": "=" }])), "the signature is not base64"),
        (envelope("signatures", json!([{ "sig": "A".repeat(4096) }])), "the signature is not base64"),
        (envelope("payload", json!("e30")), "the payload is not base64"),
        (envelope("payload", json!("////")), "the statement is not JSON with each key once"),
        (
            statement("\"subject\":", "\"subject\":[],\"subject\":"),
            "the statement is not JSON with each key once",
        ),
        (envelope("payload", json!("e30=")), "the payload is no statement"),
        (statement("Statement/v1", "Statement/v9"), "the statement is of another type"),
        (statement("cosign/sign/v1", "cosign/sign/v2"), "the statement is an attestation"),
        (statement("\"sha256\":", "\"sha512\":"), "the statement is about another image"),
        (
            statement("\"subject\":[{\"digest\":", "\"subject\":[{\"name\":"),
            "the statement is about another image",
        ),
    ] {
        assert_eq!(by_bundle(&bundle, APP), Err(NotOne(why)), "{bundle}");
    }

    let long = format!("{good}{}", " ".repeat(bundle::BUNDLE_MAX as usize));
    let why = NotOne("the bundle has another size, or is too long");
    assert_eq!(by_bundle(&long, APP), Err(why));
    let image = digest(APP);
    let shorter = Named { size: 1, ..named(good.as_bytes()) };
    assert_eq!(bundle::signed(good.as_bytes(), &shorter, &image), Err(why));
    let another = Named { digest: image, ..named(good.as_bytes()) };
    let why = NotOne("the bundle has another digest");
    assert_eq!(bundle::signed(good.as_bytes(), &another, &image), Err(why));
}

#[test]
fn a_referrer_is_looked_into_only_if_it_is_one_bundle() {
    let good = BUNDLES[0].2;
    let layer = |change: fn(&mut Value)| changed(good, |m| change(&mut m["layers"][0]));
    for (manifest, why) in [
        ("{".to_owned(), "the manifest is not JSON with each key once"),
        ("{\"layers\":{}}".to_owned(), "the manifest does not list layers"),
        (changed(good, |m| m["layers"] = json!([])), "the manifest is not of one bundle"),
        ("{}".to_owned(), "the manifest is not of one bundle"),
        (
            changed(good, |m| {
                let layer = m["layers"][0].clone();
                m["layers"].as_array_mut().unwrap().push(layer);
            }),
            "the manifest is not of one bundle",
        ),
        (layer(|l| l["mediaType"] = "text/plain".into()), "the manifest's layer is no bundle"),
        (layer(|l| l["digest"] = "sha256:00".into()), "the manifest's layer is no bundle"),
        (layer(|l| l["size"] = json!(bundle::BUNDLE_MAX + 1)), "the bundle is too long"),
    ] {
        assert_eq!(bundle::content(manifest.as_bytes()), Err(NotOne(why)), "{manifest}");
    }
}

#[test]
fn a_payload_counts_only_as_it_was_made() {
    let good = cosign!("app.payload.json");
    let listed = simple::signatures(cosign!("app.sig.json").as_bytes()).unwrap();
    let signature = &listed.signatures.last().unwrap().1;
    assert_eq!(by_payload(good, signature, APP), Ok(vec!["ecdsa-p256"]));
    // What is signed are the bytes, not what they mean.
    assert_eq!(by_payload(&format!("{good} "), signature, APP), Ok(vec![]));
    assert_eq!(by_payload(&good.replace(APP, OTHER), signature, OTHER), Ok(vec![]));
    assert_eq!(by_payload(&good.replace("acme/app", "evil/app"), signature, APP), Ok(vec![]));
    let critical = r#""type":"cosign container image signature""#;
    for (payload, why) in [
        (good[1..].to_owned(), "the payload is not JSON with each key once"),
        (
            good.replace(critical, &format!("{critical},{critical}")),
            "the payload is not JSON with each key once",
        ),
        ("{}".to_owned(), "the payload does not name an image"),
        (good.replace("\"image\"", "\"Image\""), "the payload does not name an image"),
        (good.replace("cosign container", "atomic container"), "the payload is of another type"),
        (good.replace("sha256:", "sha512:"), "the payload is about another image"),
        (good.replace("sha256:", "SHA256:"), "the payload is about another image"),
        (
            format!("{good}{}", " ".repeat(simple::PAYLOAD_MAX as usize)),
            "the payload has another size, or is too long",
        ),
    ] {
        assert_eq!(by_payload(&payload, signature, APP), Err(NotOne(why)), "{payload}");
    }
    let image = digest(APP);
    let another = Named { digest: image, ..named(good.as_bytes()) };
    let why = NotOne("the payload has another digest");
    assert_eq!(simple::signed(good.as_bytes(), &another, signature, &image), Err(why));
}

#[test]
fn of_what_a_tag_lists_the_latest_are_looked_at() {
    let good: Value = serde_json::from_str(cosign!("app.sig.json")).unwrap();
    let layer = |change: &dyn Fn(&mut Value)| {
        let mut layer = good["layers"][0].clone();
        change(&mut layer);
        layer
    };
    let signature =
        |text: &str| layer(&|l| l["annotations"]["dev.cosignproject.cosign/signature"] = text.into());
    let listed =
        |layers: Vec<Value>| simple::signatures(json!({ "layers": layers }).to_string().as_bytes()).unwrap();
    let none = listed(vec![
        layer(&|l| l["mediaType"] = "text/plain".into()),
        layer(&|l| l["digest"] = "sha256:00".into()),
        layer(&|l| l["size"] = json!(simple::PAYLOAD_MAX + 1)),
        layer(&|l| l["annotations"] = json!({})),
        signature("not base64"),
        signature("AAA"),
        signature(&"A".repeat(4096)),
    ]);
    assert!(none.signatures.is_empty() && !none.more);
    let many = |n: usize| listed((0..n).map(|n| signature(&format!("{n:04}"))).collect());
    assert!(!many(SIGNATURES_MAX).more);
    let all = many(1000);
    assert!(all.more);
    assert_eq!(all.signatures.len(), SIGNATURES_MAX);
    assert_eq!(Some(all.signatures[0].1.clone()), base64("0999", 4));
    for text in ["", "[]", "{\"layers\":[{}]}", "{\"layers\":[],\"layers\":[]}"] {
        assert!(simple::signatures(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn no_turned_bit_leaves_a_signature_of_other_bytes() {
    let image = digest(APP);
    let key = &keys()[0].1;
    let good = BUNDLES[0].1.as_bytes();
    let made = bundle::signed(good, &named(good), &image).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1 << (at % 7);
        // What is not signed, as the hint, may be anything.
        if let Ok(Signed { message, signature }) = bundle::signed(&bytes, &named(&bytes), &image)
            && key.verifies(&message, &signature)
        {
            assert_eq!(message, made.message, "byte {at}");
        }
    }
}
