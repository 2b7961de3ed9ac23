//! Manifests of every kind, as clients push them.

use serde_json::{Value, json};
use trow_raft::Digest;

use crate::support::{CONFIG, IMAGE, INDEX, LAYER, Registry, descriptor, header, image, problem};

const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

/// Pushes it under a tag and by its digest, and reads it back both ways.
async fn round_trip(registry: &Registry, tag: &str, kind: &str, document: &Value) -> String {
    let text = document.to_string();
    let digest = Digest::sha256(text.as_bytes());
    for reference in [tag, &digest.to_string()] {
        let put = registry.put_manifest("a", reference, kind, &text).await;
        assert_eq!(
            (put.status().as_u16(), header(&put, "docker-content-digest")),
            (201, digest.to_string().as_str())
        );
    }
    for reference in [tag, &digest.to_string()] {
        // What a client would rather have does not change what was pushed.
        let request = registry.request(reqwest::Method::GET, &format!("/v2/a/manifests/{reference}"));
        let got =
            request.header("accept", "application/vnd.docker.distribution.manifest.v1+prettyjws").send();
        let got = got.await.unwrap();
        assert_eq!((got.status().as_u16(), header(&got, "content-type")), (200, kind));
        assert_eq!(got.text().await.unwrap(), text);
    }
    text
}

async fn with_blobs() -> Registry {
    let registry = Registry::start().await;
    registry.push_blob("a", b"{}").await;
    registry.push_blob("a", b"layer").await;
    registry
}

#[tokio::test]
async fn docker_images_and_lists_are_served_as_such() {
    let registry = with_blobs().await;
    let mut docker = image("layer");
    docker["mediaType"] = json!(DOCKER_IMAGE);
    docker["config"]["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
    docker["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar.gzip");
    let child = round_trip(&registry, "docker", DOCKER_IMAGE, &docker).await;
    let mut listed = descriptor(&child, DOCKER_IMAGE);
    listed["platform"] = json!({ "architecture": "arm", "os": "linux", "variant": "v7" });
    let list = json!({ "schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [listed] });
    round_trip(&registry, "list", DOCKER_LIST, &list).await;
    // A list of images that are not here is refused, in this form as in OCI's.
    let absent =
        json!({ "schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [descriptor("x", DOCKER_IMAGE)] });
    let refused = registry.put_manifest("a", "absent", DOCKER_LIST, &absent.to_string()).await;
    assert_eq!(problem(refused).await, (404, "MANIFEST_BLOB_UNKNOWN".into()));
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let refused = registry.put_manifest("a", "v1", schema1, r#"{"schemaVersion":1}"#).await;
    assert_eq!(problem(refused).await, (400, "MANIFEST_INVALID".into()));
}

#[tokio::test]
async fn an_index_may_name_an_index() {
    let registry = with_blobs().await;
    let child = round_trip(&registry, "image", IMAGE, &image("layer")).await;
    let mut text = child;
    let mut kind = IMAGE;
    for depth in 0..5 {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(&text, kind)] });
        text = round_trip(&registry, &format!("depth-{depth}"), INDEX, &index).await;
        kind = INDEX;
    }
    let empty = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] });
    round_trip(&registry, "empty", INDEX, &empty).await;
}

#[tokio::test]
async fn artifacts_come_in_three_forms() {
    let registry = with_blobs().await;
    // An image manifest without layers, as image-spec 1.1 says; one with none listed; one of the
    // release candidates' own kind.
    let config = descriptor("{}", "application/vnd.oci.empty.v1+json");
    let kind = "application/vnd.example.sbom.v1";
    let base = json!({ "schemaVersion": 2, "mediaType": IMAGE, "artifactType": kind, "config": config });
    let mut none = base.clone();
    none["layers"] = json!([]);
    round_trip(&registry, "no-layers", IMAGE, &base).await;
    round_trip(&registry, "zero-layers", IMAGE, &none).await;
    let mut empty = base.clone();
    empty["layers"] = json!([config]);
    round_trip(&registry, "the-empty-layer", IMAGE, &empty).await;
    let own = json!({ "mediaType": ARTIFACT, "artifactType": kind, "blobs": [descriptor("layer", "x/y")] });
    round_trip(&registry, "own-kind", ARTIFACT, &own).await;
    // Data may be in the descriptor; the blob must be here all the same.
    let mut data = base.clone();
    data["config"]["data"] = json!("e30=");
    data["unknown"] = json!({ "nested": ["as", "it", 1] });
    round_trip(&registry, "data", IMAGE, &data).await;
}

#[tokio::test]
async fn a_subject_need_not_be_here_and_is_named_in_the_answer() {
    let registry = with_blobs().await;
    let subject = descriptor("never pushed", IMAGE);
    for (kind, mut document) in [
        (IMAGE, image("layer")),
        (INDEX, json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] })),
        (ARTIFACT, json!({ "mediaType": ARTIFACT, "artifactType": "x/y" })),
    ] {
        document["subject"] = subject.clone();
        document["annotations"] = json!({ "kind": kind });
        let text = document.to_string();
        let put = registry.put_manifest("a", &Digest::sha256(text.as_bytes()).to_string(), kind, &text).await;
        assert_eq!(
            (put.status().as_u16(), header(&put, "oci-subject")),
            (201, subject["digest"].as_str().unwrap())
        );
    }
    let path = format!("/v2/a/referrers/{}", subject["digest"].as_str().unwrap());
    let body: Value = registry.get(&path).await.json().await.unwrap();
    let mut types: Vec<(String, Option<String>)> = body["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            assert_eq!(one["annotations"]["kind"], one["mediaType"]);
            (one["mediaType"].as_str().unwrap().to_owned(), one["artifactType"].as_str().map(str::to_owned))
        })
        .collect();
    types.sort();
    // An image's type is its config's; an index without a type of its own has none.
    let expected = [(ARTIFACT, Some("x/y")), (INDEX, None), (IMAGE, Some(CONFIG))];
    assert_eq!(types, expected.map(|(kind, of)| (kind.to_owned(), of.map(str::to_owned))));
    assert_eq!(
        registry
            .put_manifest("a", "v1", IMAGE, &image("layer").to_string())
            .await
            .headers()
            .get("oci-subject"),
        None
    );
}

#[tokio::test]
async fn layers_of_any_type_are_kept_and_must_be_here() {
    let registry = with_blobs().await;
    for kind in [LAYER, "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "text/html", "x"] {
        let mut document = image("layer");
        document["layers"][0]["mediaType"] = json!(kind);
        round_trip(&registry, "any", IMAGE, &document).await;
        document["layers"][0] = descriptor("not here", kind);
        let refused = registry.put_manifest("a", "any", IMAGE, &document.to_string()).await;
        assert_eq!(problem(refused).await, (404, "MANIFEST_BLOB_UNKNOWN".into()));
    }
}
