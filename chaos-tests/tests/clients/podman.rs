//! podman: images in both formats, a multi-architecture one, and a registry that is a mirror by name, as
//! CRI-O has it too. It has no verb to delete with in a registry.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use chaos_tests::content::Content;
use chaos_tests::layout::Layout;
use chaos_tests::tool::Tool;
use serde_json::Value;
use trow_raft::Digest;

use super::site::{NAME, Site, against_three_nodes, digest};

const REPO: &str = "podman/app";
const PLAIN: &str = "--tls-verify=false";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn podman_pushes_searches_and_pulls_by_address_and_by_mirror() {
    against_three_nodes("podman", &["podman"], run).await;
}

async fn run(site: &mut Site) -> Result<()> {
    let podman = local(site.tool("podman", &["--version"]).await?);
    let (push, pull) = (site.push(), site.pull());
    let layout = Layout::create(&site.dir().join("layout"))?;
    let login = ["login", PLAIN, "-u", "admin", "--password-stdin", &push];
    podman.run_with(&login, &site.token()?).await?;
    let mut digests = Vec::new();
    for (tag, format) in [("oci", "oci"), ("docker", "v2s2")] {
        let layer = layout.layer(Content::random(100_000))?;
        let (archive, image) = (layout.file(&layer.digest), format!("{push}/{REPO}:{tag}"));
        podman.run(&["import", &archive.display().to_string(), &image]).await?;
        let file = podman.home().join(tag).display().to_string();
        podman.run(&["push", PLAIN, "--format", format, "--digestfile", &file, &image]).await?;
        let pushed = digest(&std::fs::read_to_string(&file)?)?;
        site.manifest(REPO, tag, Some(&pushed)).await?;
        digests.push((tag, pushed));
    }
    let index = multi(site, &podman, &layout).await?;
    digests.push(("multi", index));

    let found = podman.run(&["search", PLAIN, "--list-tags", &format!("{pull}/{REPO}")]).await?;
    ensure!(["docker", "multi", "oci"].iter().all(|tag| found.contains(tag)), "{found}");
    let found = podman.run(&["search", PLAIN, &format!("{pull}/")]).await?;
    ensure!(found.contains(&format!("{pull}/{REPO}")), "{found}");
    for (tag, pushed) in &digests {
        pulled(&podman, &format!("{pull}/{REPO}:{tag}"), pushed).await?;
    }

    // By the name for which the nodes are mirrors, the first of which is not there.
    let config = podman.home().join("registries.conf");
    write_mirrors(&config, &["127.0.0.1:1", &site.delete()])?;
    let podman = podman.env("CONTAINERS_REGISTRIES_CONF", &config.display().to_string());
    for (tag, pushed) in &digests {
        pulled(&podman, &format!("{NAME}/{REPO}:{tag}"), pushed).await?;
        site.remove(REPO, pushed).await?;
    }
    podman.refused(&["pull", &format!("{NAME}/{REPO}:oci")]).await?;
    Ok(())
}

/// With images of its own in plain directories, which takes no kernel's help.
fn local(podman: Tool) -> Tool {
    let (root, run) = (podman.home().join("root"), podman.home().join("run"));
    let (root, run) = (root.display().to_string(), run.display().to_string());
    podman.with(&["--root", &root, "--runroot", &run, "--storage-driver", "vfs"])
}

/// Pushes a list of two architectures; its digest.
async fn multi(site: &Site, podman: &Tool, layout: &Layout) -> Result<Digest> {
    podman.run(&["manifest", "create", "multi"]).await?;
    for architecture in ["amd64", "arm64"] {
        let layer = layout.layer(Content::random(100_000))?;
        let archive = layout.file(&layer.digest).display().to_string();
        podman.run(&["import", "--os", "linux", "--arch", architecture, &archive, architecture]).await?;
        let image = format!("containers-storage:localhost/{architecture}");
        podman.run(&["manifest", "add", "multi", &image]).await?;
    }
    let to = format!("docker://{}/{REPO}:multi", site.push());
    podman.run(&["manifest", "push", "--all", "--format", "v2s2", PLAIN, "multi", &to]).await?;
    let list = site.manifest(REPO, "multi", None).await?;
    let parsed: Value = serde_json::from_slice(&list)?;
    ensure!(parsed["mediaType"] == LIST, "{parsed}");
    let architectures: Vec<_> = parsed["manifests"].as_array().context("no manifests")?.iter().collect();
    let named = |image: &&Value, name: &str| image["platform"]["architecture"] == name;
    ensure!(
        architectures.len() == 2
            && ["amd64", "arm64"].iter().all(|name| architectures.iter().any(|image| named(image, name))),
        "{parsed}"
    );
    Ok(Digest::sha256(&list))
}

/// Pulls an image into an empty store, where it must have this digest.
async fn pulled(podman: &Tool, image: &str, digest: &Digest) -> Result<()> {
    podman.run(&["rmi", "--all", "--force"]).await?;
    podman.run(&["pull", PLAIN, image]).await?;
    let found = podman.run(&["image", "inspect", "--format", "{{.RepoDigests}}", image]).await?;
    ensure!(found.contains(&digest.to_string()), "{image} came back as {found} instead of {digest}");
    Ok(())
}

/// Says that these are mirrors of [`NAME`].
fn write_mirrors(file: &Path, mirrors: &[&str]) -> Result<()> {
    let mut text = format!("[[registry]]\nlocation = \"{NAME}\"\n");
    for mirror in mirrors {
        text.push_str(&format!("\n[[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true\n"));
    }
    Ok(std::fs::write(file, text)?)
}
