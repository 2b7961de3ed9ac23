//! What is read of a manifest, and what is wrong with those that are refused.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = media_type::INDEX;

fn read(content_type: &str, document: &str) -> Result<Parsed, Problem> {
    let bytes = Bytes::copy_from_slice(document.as_bytes());
    let result = parse(Digest::sha256(document.as_bytes()), Some(content_type), bytes);
    result.map_err(|error| error.problem())
}

fn descriptor(content: &str, media_type: &str) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256(content.as_bytes()), "size": content.len() })
}

fn image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor("config", "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor("layer", "application/vnd.oci.image.layer.v1.tar+gzip")],
    })
}

fn index() -> Value {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor("child", IMAGE)] })
}

fn with(mut document: Value, key: &str, value: Value) -> String {
    document[key] = value;
    document.to_string()
}

fn refuses(content_type: &str, document: &str, problem: Problem) {
    let shown: String = document.chars().take(200).collect();
    assert_eq!(read(content_type, document).map(|_| ()), Err(problem), "{shown}");
}

#[test]
fn references_are_sets() {
    let layer = descriptor("layer", "application/vnd.oci.image.layer.v1.tar+gzip");
    let parsed = read(IMAGE, &with(image(), "layers", json!([layer, layer]))).unwrap();
    let mut expected = vec![Digest::sha256(b"config"), Digest::sha256(b"layer")];
    expected.sort();
    assert_eq!(parsed.manifest.blobs, expected);
    assert_eq!(parsed.sizes[&Digest::sha256(b"layer")], 5);
    assert_eq!(parsed.manifest.artifact_type.as_deref(), Some("application/vnd.oci.image.config.v1+json"));
    assert_eq!(parsed.manifest.descriptor, None);

    let parsed = read(INDEX, &index().to_string()).unwrap();
    assert_eq!(parsed.manifest.children, [Digest::sha256(b"child")]);
    assert_eq!((parsed.manifest.blobs.len(), parsed.manifest.artifact_type), (0, None));
}

#[test]
fn blobs_in_an_index_and_foreign_layers_are_told_apart() {
    let cache = json!([descriptor("layer", "application/vnd.oci.image.layer.v1.tar+gzip")]);
    let parsed = read(INDEX, &with(index(), "manifests", cache)).unwrap();
    assert_eq!((parsed.manifest.children.len(), parsed.manifest.blobs.len()), (0, 1));

    let foreign = descriptor("f", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    let mut elsewhere = descriptor("g", "application/vnd.oci.image.layer.v1.tar");
    elsewhere["urls"] = json!(["https://example.com/g"]);
    let parsed = read(IMAGE, &with(image(), "layers", json!([foreign, elsewhere]))).unwrap();
    assert_eq!(parsed.manifest.blobs, [Digest::sha256(b"config")]);
}

#[test]
fn a_subject_makes_a_descriptor_for_the_referrers_list() {
    let mut document = image();
    document["subject"] = descriptor("subject", IMAGE);
    document["artifactType"] = json!("application/vnd.example");
    document["annotations"] = json!({ "a": "b" });
    let text = document.to_string();
    let manifest = read(IMAGE, &text).unwrap().manifest;
    assert_eq!(manifest.subject, Some(Digest::sha256(b"subject")));
    let expected = json!({
        "mediaType": IMAGE, "digest": Digest::sha256(text.as_bytes()), "size": text.len(),
        "artifactType": "application/vnd.example", "annotations": { "a": "b" },
    });
    let listed: Value = serde_json::from_slice(&manifest.descriptor.unwrap()).unwrap();
    assert_eq!(listed, expected);
}

#[test]
fn ambiguous_documents_are_refused() {
    let bad = Problem::ManifestInvalid;
    refuses(IMAGE, &with(image(), "manifests", json!([])), bad);
    refuses(INDEX, &with(index(), "layers", json!([])), bad);
    refuses(INDEX, &with(index(), "config", descriptor("c", "x")), bad);
    refuses(INDEX, &image().to_string(), bad);
    refuses(INDEX, &with(image(), "mediaType", json!(INDEX)), bad);
    refuses(IMAGE, &with(image(), "Layers", json!([])), bad);
    // Go takes these for `layers` and `digest` as well.
    refuses(IMAGE, &with(image(), "layer\u{17f}", json!([])), bad);
    let mut twice = image();
    twice["config"]["Digest"] = json!(Digest::sha256(b"x"));
    refuses(IMAGE, &twice.to_string(), bad);
    let config = descriptor("config", "x");
    let list = json!([config["mediaType"], config["digest"], config["size"], null]);
    refuses(IMAGE, &with(image(), "config", list), bad);
    refuses(IMAGE, &image().to_string().replacen('{', r#"{"config":null,"#, 1), bad);
    refuses(IMAGE, &with(image(), "x", json!(1)).replace(r#""x":1"#, r#""x":{"a":1,"a":2}"#), bad);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    refuses(IMAGE, &with(image(), "x", json!(1)).replace(r#""x":1"#, &format!(r#""x":{deep}"#)), bad);
    for text in ["", "{", "[]", "null", "1", "{}", "\u{feff}{}", &format!("{}x", image())] {
        refuses(IMAGE, text, bad);
    }
    refuses("text/html", r#"{"schemaVersion":2}"#, bad);
    refuses("application/vnd.docker.distribution.manifest.v1+json", r#"{"schemaVersion":1}"#, bad);
    refuses(IMAGE, &with(image(), "schemaVersion", json!(1)), bad);
    refuses(IMAGE, &with(image(), "config", json!(null)), bad);
}

#[test]
fn descriptors_must_be_possible() {
    let set = |key: &str, value: Value| {
        let mut document = image();
        document["config"][key] = value;
        document.to_string()
    };
    for digest in ["sha256:../../x", "sha256:abc", "nocolon", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
        refuses(IMAGE, &set("digest", json!(digest)), Problem::DigestInvalid);
    }
    refuses(
        IMAGE,
        &set("digest", json!(Digest::sha256(b"x").to_string().to_uppercase())),
        Problem::DigestInvalid,
    );
    for size in [json!(-1), json!(1u64 << 63), json!(1.5), json!("6"), json!(null), json!(1e30)] {
        refuses(IMAGE, &set("size", size), Problem::ManifestInvalid);
    }
    let mut twice = image();
    twice["layers"] = json!([twice["config"], { "digest": Digest::sha256(b"config"), "size": 7 }]);
    refuses(IMAGE, &twice.to_string(), Problem::SizeInvalid);
    refuses(IMAGE, &with(image(), "subject", json!({ "digest": "x", "size": 1 })), Problem::DigestInvalid);
    refuses(IMAGE, &with(image(), "annotations", json!({ "a": 1 })), Problem::ManifestInvalid);
}

#[test]
fn the_type_comes_from_either_place_without_parameters() {
    let text = image().to_string();
    assert_eq!(read(&format!("{IMAGE}; charset=utf-8"), &text).unwrap().manifest.media_type, IMAGE);
    let bytes = Bytes::from(text.clone());
    assert!(parse(Digest::sha256(b""), None, bytes).is_ok());
    assert!(read(IMAGE, &with(image(), "mediaType", json!(null))).is_ok());
    // Go writes an empty list as null.
    assert!(read(INDEX, &with(index(), "manifests", json!(null))).is_ok());
    assert!(read(IMAGE, &with(image(), "layers", json!(null))).is_ok());
}

proptest! {
    #[test]
    fn no_document_panics(at in 0usize..300, noise in "[\\[\\]{}:,\"0-9a-z]{0,6}") {
        let mut text = image().to_string();
        let at = at.min(text.len());
        text.insert_str(at, &noise);
        let _ = read(IMAGE, &text);
    }
}
