//! crane: layouts in and out, copies within a registry and from another one.

use anyhow::{Result, ensure};
use chaos_tests::content::Content;
use chaos_tests::layout::{Layout, blobs};
use chaos_tests::registry::Registry;
use chaos_tests::tool::Tool;
use trow_raft::Digest;

use super::site::{Site, against_three_nodes, digest, lines};

const REPO: &str = "crane/multi";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crane_pushes_pulls_mounts_and_deletes() {
    against_three_nodes("crane", &["crane"], run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crane_copies_a_repository_from_docker_registry() {
    against_three_nodes("crane copy", &["crane", "docker-registry"], copies).await;
}

async fn run(site: &mut Site) -> Result<()> {
    let crane = site.tool("crane", &["version"]).await?;
    let (push, pull, delete) = (site.push(), site.pull(), site.delete());
    let (layout, index) = Layout::multi(&site.dir().join("layout"), "multi")?;
    let multi = Digest::sha256(&index);
    crane.run(&["push", &layout.dir.display().to_string(), &format!("{push}/{REPO}:v1")]).await?;
    ensure!(site.manifest(REPO, "v1", Some(&multi)).await? == index);
    let layer = layout.layer(Content::random(100_000))?;
    let archive = layout.file(&layer.digest).display().to_string();
    crane.run(&["append", "--oci-empty-base", "-f", &archive, "-t", &format!("{push}/{REPO}:v2")]).await?;

    let image = format!("{pull}/{REPO}:v1");
    ensure!(digest(&crane.run(&["digest", &image]).await?)? == multi);
    std::fs::remove_file(layout.file(&layer.digest))?;
    same(&crane, &image, "back", &layout).await?;
    // Layers, configuration and manifest fit each other; of layers that are compressed alone, as this one is.
    crane.run(&["validate", "--remote", &format!("{pull}/{REPO}:v2")]).await?;
    ensure!(lines(&crane.run(&["ls", &format!("{pull}/{REPO}")]).await?) == ["v1", "v2"]);

    // Within a registry nothing is sent again: three configurations and six layers are mounted.
    let before = site.mounted().await?;
    crane.run(&["copy", &image, &format!("{pull}/crane/mounted:v1")]).await?;
    let after = site.mounted().await?;
    ensure!((after.0 - before.0, after.1 - before.1) == (9.0, 0.0), "{before:?}, then {after:?}");
    site.manifest("crane/mounted", "v1", Some(&multi)).await?;
    same(&crane, &format!("{delete}/crane/mounted:v1"), "mounted", &layout).await?;
    ensure!(lines(&crane.run(&["catalog", "--insecure", &pull]).await?) == ["crane/mounted", REPO]);

    let refused = crane.refused(&["delete", &format!("{delete}/{REPO}:v2")]).await?;
    ensure!(refused.contains("UNAUTHORIZED"), "{refused}");
    let login = ["auth", "login", &delete, "-u", "admin", "--password-stdin"];
    crane.run_with(&login, &site.token()?).await?;
    let single = digest(&crane.run(&["digest", &format!("{pull}/{REPO}:v2")]).await?)?;
    crane.run(&["delete", &format!("{delete}/{REPO}:v2")]).await?;
    site.gone(REPO, "v2").await?;
    site.manifest(REPO, &single.to_string(), Some(&single)).await?;
    crane.run(&["delete", &format!("{delete}/{REPO}@{multi}")]).await?;
    site.gone(REPO, "v1").await?;
    site.manifest("crane/mounted", "v1", Some(&multi)).await.map(drop)
}

async fn copies(site: &mut Site) -> Result<()> {
    let crane = site.tool("crane", &["version"]).await?;
    let registry = Registry::start(&site.dir().join("registry")).await?;
    let mut pushed = Vec::new();
    for tag in ["v1", "v2", "v3"] {
        let (layout, index) = Layout::multi(&site.dir().join(tag), tag)?;
        let image = format!("{}/app/server:{tag}", registry.address);
        crane.run(&["push", &layout.dir.display().to_string(), &image]).await?;
        pushed.push((tag, layout, index));
    }
    let from = format!("{}/app/server", registry.address);
    crane.run(&["copy", "--all-tags", &from, &format!("{}/copied/server", site.push())]).await?;
    for (tag, layout, index) in pushed {
        site.manifest("copied/server", tag, Some(&Digest::sha256(&index))).await?;
        same(&crane, &format!("{}/copied/server:{tag}", site.pull()), tag, &layout).await?;
    }
    let tags = crane.run(&["ls", &format!("{}/copied/server", site.pull())]).await?;
    ensure!(lines(&tags) == ["v1", "v2", "v3"], "{tags}");
    Ok(())
}

/// Pulls an image into `dir` of the client's home; it must be what the layout has.
async fn same(crane: &Tool, image: &str, dir: &str, layout: &Layout) -> Result<()> {
    crane.run(&["pull", "--format", "oci", image, dir]).await?;
    ensure!(blobs(&crane.home().join(dir))? == blobs(&layout.dir)?, "{image} came back with other blobs");
    Ok(())
}
