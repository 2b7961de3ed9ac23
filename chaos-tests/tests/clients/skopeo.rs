//! skopeo: images of several architectures, whole repositories from another registry, a big layer.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use chaos_tests::layout::{Layout, blobs};
use chaos_tests::registry::Registry;
use chaos_tests::tool::Tool;
use serde_json::Value;
use trow_raft::Digest;

use super::site::{Site, against_three_nodes};

const SOURCE: &str = "--src-tls-verify=false";
const TARGET: &str = "--dest-tls-verify=false";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_copies_lists_and_deletes_a_multi_architecture_image() {
    against_three_nodes("skopeo", &["skopeo"], copies).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_copies_a_repository_from_docker_registry() {
    against_three_nodes("skopeo sync", &["skopeo", "docker-registry"], syncs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_layer_goes_in_through_one_node_and_comes_out_through_another() {
    against_three_nodes("skopeo, big layer", &["skopeo"], big).await;
}

async fn copies(site: &mut Site) -> Result<()> {
    let skopeo = site.tool("skopeo", &["--version"]).await?;
    let (layout, index) = Layout::multi(&site.dir().join("layout"), "multi")?;
    let (digest, repo) = (Digest::sha256(&index), "skopeo/multi");
    let image = |node: String| format!("docker://{node}/{repo}:v1");
    let copy = ["copy", "--all", "--preserve-digests"];
    push(&skopeo, &copy, &layout, &image(site.push())).await?;
    ensure!(site.manifest(repo, "v1", Some(&digest)).await? == index);

    let raw = skopeo.run(&["inspect", "--raw", "--tls-verify=false", &image(site.pull())]).await?;
    ensure!(raw.as_bytes() == index, "skopeo inspect shows another index");
    let tags =
        skopeo.run(&["list-tags", "--tls-verify=false", &format!("docker://{}/{repo}", site.pull())]).await?;
    let tags: Value = serde_json::from_str(&tags)?;
    ensure!(tags["Tags"] == serde_json::json!(["v1"]), "{tags}");
    let back = site.dir().join("back");
    let to = format!("oci:{}:multi", back.display());
    skopeo.run(&[copy.as_slice(), &[SOURCE, &image(site.pull()), &to]].concat()).await?;
    ensure!(blobs(&layout.dir)? == blobs(&back)?, "what came back has other blobs");

    let delete = ["delete", "--tls-verify=false", &image(site.delete())];
    let refused = skopeo.refused(&delete).await?;
    ensure!(refused.contains("401") && refused.contains("admin token"), "{refused}");
    let login = ["login", "--tls-verify=false", "-u", "admin", "--password-stdin", &site.delete()];
    skopeo.run_with(&login, &site.token()?).await?;
    skopeo.run(&delete).await?;
    site.gone(repo, "v1").await?;
    site.gone(repo, &digest.to_string()).await
}

async fn syncs(site: &mut Site) -> Result<()> {
    let skopeo = site.tool("skopeo", &["--version"]).await?;
    let registry = Registry::start(&site.dir().join("registry")).await?;
    let mut pushed = Vec::new();
    for tag in ["v1", "v2", "v3"] {
        let (layout, index) = Layout::multi(&site.dir().join(tag), tag)?;
        let image = format!("docker://{}/app/server:{tag}", registry.address);
        push(&skopeo, &["copy", "--all", "--preserve-digests"], &layout, &image).await?;
        pushed.push((tag, index));
    }
    let from = format!("{}/app/server", registry.address);
    let to = format!("{}/copied/app", site.push());
    let sync = ["sync", "--all", "--preserve-digests", "--src", "docker", "--dest", "docker"];
    skopeo.run(&[sync.as_slice(), &[SOURCE, TARGET, &from, &to]].concat()).await?;
    for (tag, index) in pushed {
        let found = site.manifest("copied/app/server", tag, Some(&Digest::sha256(&index))).await?;
        ensure!(found == index, "{tag} is another index");
        // Everything that it names is there, or the copy back would fail.
        let (image, to) =
            (format!("docker://{}/copied/app/server:{tag}", site.pull()), site.dir().join("back"));
        let to = format!("oci:{}:{tag}", to.display());
        skopeo.run(&["copy", "--all", "--preserve-digests", SOURCE, &image, &to]).await?;
        site.remove("copied/app/server", &Digest::sha256(&index)).await?;
    }
    let back = blobs(&site.dir().join("back"))?;
    for tag in ["v1", "v2", "v3"] {
        ensure!(blobs(&site.dir().join(tag))?.iter().all(|name| back.contains(name)), "{tag} lacks blobs");
    }
    Ok(())
}

async fn big(site: &mut Site) -> Result<()> {
    let mib: u64 = std::env::var("TROW_LAYER_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(16);
    let skopeo = site.tool("skopeo", &["--version"]).await?.within(Duration::from_secs(200));
    let layout = Layout::create(&site.dir().join("layout"))?;
    let layer = layout.hollow_layer(mib << 20)?;
    let image = layout.image("amd64", std::slice::from_ref(&layer))?;
    layout.tag("big", &image)?;
    let reference = |node: String| format!("docker://{node}/skopeo/big:v1");
    let began = Instant::now();
    push(&skopeo, &["copy", "--preserve-digests"], &layout, &reference(site.push())).await?;
    let pushed = began.elapsed();
    site.manifest("skopeo/big", "v1", Some(&image.digest)).await?;

    let (back, began) = (site.dir().join("back"), Instant::now());
    let to = format!("oci:{}:big", back.display());
    skopeo.run(&["copy", "--preserve-digests", SOURCE, &reference(site.pull()), &to]).await?;
    let pulled = began.elapsed();
    ensure!(blobs(&back)? == blobs(&layout.dir)?, "what came back has other blobs");
    eprintln!(
        "a layer of {} bytes: pushed in {:.1} s, pulled in {:.1} s",
        layer.size,
        pushed.as_secs_f64(),
        pulled.as_secs_f64()
    );
    for dir in [back, layout.dir] {
        std::fs::remove_dir_all(dir)?;
    }

    let login = ["login", "--tls-verify=false", "-u", "admin", "--password-stdin", &site.delete()];
    skopeo.run_with(&login, &site.token()?).await?;
    skopeo.run(&["delete", "--tls-verify=false", &reference(site.delete())]).await?;
    site.gone("skopeo/big", &image.digest.to_string()).await
}

/// Copies the one image of a layout to `image`.
async fn push(skopeo: &Tool, copy: &[&str], layout: &Layout, image: &str) -> Result<()> {
    let from = format!("oci:{}", layout.dir.display());
    skopeo.run(&[copy, &[TARGET, &from, image]].concat()).await.map(drop)
}
