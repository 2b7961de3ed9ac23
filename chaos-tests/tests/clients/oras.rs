//! oras: artifacts, what refers to them, and single blobs.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use trow_raft::Digest;

use super::site::{Site, against_three_nodes, digest, lines};

const REPO: &str = "oras/notes";
const PLAIN: &str = "--plain-http";
const SBOM: &str = "application/vnd.example.sbom";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oras_pushes_attaches_discovers_copies_and_deletes() {
    against_three_nodes("oras", &["oras"], run).await;
}

async fn run(site: &mut Site) -> Result<()> {
    let oras = site.tool("oras", &["version"]).await?;
    let (push, pull, delete) = (site.push(), site.pull(), site.delete());
    std::fs::write(oras.home().join("note.txt"), "a note\n")?;
    std::fs::write(oras.home().join("sbom.json"), r#"{"packages":[]}"#)?;
    let note = ["--artifact-type", "application/vnd.example.note", "note.txt:text/plain"];
    let image = format!("{push}/{REPO}:v1");
    oras.run(&[&["push", PLAIN, &image], note.as_slice()].concat()).await?;
    let sbom = ["--artifact-type", SBOM, "sbom.json:application/json"];
    oras.run(&[&["attach", PLAIN, &image], sbom.as_slice()].concat()).await?;

    let subject = Digest::sha256(&site.manifest(REPO, "v1", None).await?);
    let image = format!("{pull}/{REPO}:v1");
    let resolved = oras.run(&["resolve", PLAIN, &image]).await?;
    ensure!(digest(&resolved)? == subject, "{resolved}");
    let referrer = discover(&oras.run(&["discover", PLAIN, "--format", "json", &image]).await?)?;
    site.manifest(REPO, &referrer.to_string(), Some(&referrer)).await?;
    oras.run(&["pull", PLAIN, "-o", "back", &image]).await?;
    oras.run(&["pull", PLAIN, "-o", "back", &format!("{pull}/{REPO}@{referrer}")]).await?;
    for file in ["note.txt", "sbom.json"] {
        let (sent, back) = (oras.home().join(file), oras.home().join("back").join(file));
        ensure!(std::fs::read(sent)? == std::fs::read(back)?, "{file} came back with other bytes");
    }
    ensure!(lines(&oras.run(&["repo", "tags", PLAIN, &format!("{pull}/{REPO}")]).await?) == ["v1"]);

    // The empty configuration of both, and the file of each.
    let before = site.mounted().await?;
    let copy = ["cp", "-r", "--from-plain-http", "--to-plain-http", &image];
    oras.run(&[copy.as_slice(), &[&format!("{pull}/oras/copied:v1")]].concat()).await?;
    let after = site.mounted().await?;
    ensure!((after.0 - before.0, after.1 - before.1) == (3.0, 0.0), "{before:?}, then {after:?}");
    let copied = ["discover", PLAIN, "--format", "json", &format!("{delete}/oras/copied:v1")];
    ensure!(discover(&oras.run(&copied).await?)? == referrer);
    ensure!(lines(&oras.run(&["repo", "ls", PLAIN, &pull]).await?) == ["oras/copied", REPO]);

    let manifest = format!("{delete}/{REPO}@{referrer}");
    oras.refused(&["manifest", "delete", "-f", PLAIN, &manifest]).await?;
    oras.run_with(&["login", PLAIN, "-u", "admin", "--password-stdin", &delete], &site.token()?).await?;
    oras.run(&["manifest", "delete", "-f", PLAIN, &manifest]).await?;
    site.gone(REPO, &referrer.to_string()).await?;
    let left = oras.run(&["discover", PLAIN, "--format", "json", &image]).await?;
    ensure!(discover(&left).is_err(), "a referrer that was deleted is listed: {left}");
    oras.run(&["manifest", "delete", "-f", PLAIN, &format!("{delete}/{REPO}:v1")]).await?;
    site.gone(REPO, &subject.to_string()).await?;

    let blob = Digest::sha256(&std::fs::read(oras.home().join("note.txt"))?);
    let fetch = ["blob", "fetch", PLAIN, "--output", "-", &format!("{pull}/{REPO}@{blob}")];
    ensure!(oras.run(&fetch).await? == "a note\n");
    oras.run(&["blob", "delete", "-f", PLAIN, &format!("{delete}/{REPO}@{blob}")]).await?;
    for node in &site.cluster.nodes {
        ensure!(node.client().head_blob(REPO, &blob).await?.status == 404, "{} has the blob", node.name);
    }
    Ok(())
}

/// The one referrer that `oras discover` shows, an SBOM.
fn discover(json: &str) -> Result<Digest> {
    let found: Value = serde_json::from_str(json)?;
    let referrers = found["referrers"].as_array().context("no list of referrers")?;
    ensure!(referrers.len() == 1 && referrers[0]["artifactType"] == SBOM, "{found}");
    digest(referrers[0]["digest"].as_str().context("no digest")?)
}
