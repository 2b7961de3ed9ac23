//! A multi-architecture image goes in through one node and comes out through another, byte for byte,
//! with the leader killed in between.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::content::Content;
use chaos_tests::image::MANIFEST;
use chaos_tests::report::scenario;
use chaos_tests::require;
use serde_json::json;
use tokio::process::Command;
use trow_raft::Digest;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_copies_a_multi_architecture_image_through_any_node() {
    if require::tools(&["skopeo"]) {
        scenario("skopeo", Duration::from_secs(180), run()).await;
    }
}

async fn run() -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(5)).await?;
    let layout = cluster.root().join("layout");
    let index = write_layout(&layout)?;
    skopeo(
        &format!("oci:{}:multi", layout.display()),
        &format!("docker://{}/multi/arch:v1", cluster.nodes[0].client),
    )
    .await?;
    let leader = cluster.leader(Duration::from_secs(10)).await?;
    // The image must come back through n5, so when n5 leads it is n1 that may not be needed any more.
    let (victim, back) = if leader == 4 { (4, 3) } else { (leader, 4) };
    cluster.nodes[victim].kill();
    let copy = cluster.root().join("copy");
    skopeo(
        &format!("docker://{}/multi/arch:v1", cluster.nodes[back].client),
        &format!("oci:{}:multi", copy.display()),
    )
    .await?;
    ensure!(blobs(&layout)? == blobs(&copy)?, "what came back has other blobs");
    let through = cluster.nodes[back].client().manifest("multi/arch", "v1").await?;
    ensure!(through.body == index, "the index has other bytes");
    ensure!(through.header("content-type") == Some(INDEX), "the index has another media type");
    cluster.done();
    Ok(())
}

async fn skopeo(from: &str, to: &str) -> Result<()> {
    let arguments =
        ["copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"];
    let arguments = arguments.iter().filter(|flag| match **flag {
        "--src-tls-verify=false" => from.starts_with("docker:"),
        "--dest-tls-verify=false" => to.starts_with("docker:"),
        _ => true,
    });
    let output = Command::new("skopeo").arg("--insecure-policy").args(arguments).args([from, to]).output();
    let output = output.await.context("run skopeo")?;
    ensure!(output.status.success(), "skopeo copy {from} {to}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// An OCI image layout with three architectures; the bytes of its index.
fn write_layout(dir: &Path) -> Result<Vec<u8>> {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    let mut manifests = Vec::new();
    for architecture in ["amd64", "arm64", "s390x"] {
        let image = layers(architecture, &blobs)?;
        manifests.push(json!({
            "mediaType": MANIFEST, "digest": image.0.to_string(), "size": image.1,
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string();
    let digest = write(&blobs, index.as_bytes())?;
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let top = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": INDEX, "digest": digest.to_string(), "size": index.len(),
        "annotations": {"org.opencontainers.image.ref.name": "multi"},
    }]});
    std::fs::write(dir.join("index.json"), top.to_string())?;
    Ok(index.into_bytes())
}

/// Writes one architecture's image; its manifest's digest and size. skopeo reads the configuration, so it
/// is a real one.
fn layers(architecture: &str, blobs: &Path) -> Result<(Digest, usize)> {
    let contents: Vec<Content> = [300_000, 2_000_000].map(Content::random).into();
    let mut layers = Vec::new();
    for content in &contents {
        let digest = write(blobs, &content.bytes())?;
        let media = "application/vnd.oci.image.layer.v1.tar";
        layers.push(json!({"mediaType": media, "digest": digest.to_string(), "size": content.len()}));
    }
    let diff_ids: Vec<String> = contents.iter().map(|content| content.digest().to_string()).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string();
    let digest = write(blobs, config.as_bytes())?;
    let media = "application/vnd.oci.image.config.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": media, "digest": digest.to_string(), "size": config.len()},
        "layers": layers,
    })
    .to_string();
    Ok((write(blobs, manifest.as_bytes())?, manifest.len()))
}

fn write(blobs: &Path, bytes: &[u8]) -> Result<Digest> {
    let digest = Digest::sha256(bytes);
    std::fs::write(blobs.join(digest.hex()), bytes)?;
    Ok(digest)
}

/// The names of a layout's blobs, each checked against its bytes.
fn blobs(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir.join("blobs/sha256"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        ensure!(Digest::sha256(&std::fs::read(entry.path())?).hex() == name, "{name} has other bytes");
        names.push(name);
    }
    names.sort();
    Ok(names)
}
