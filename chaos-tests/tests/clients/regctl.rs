//! regctl: images with what refers to them, indexes, deleting tags alone.

use anyhow::{Context, Result, ensure};
use chaos_tests::layout::{Layout, blobs};
use serde_json::Value;
use trow_raft::Digest;

use super::site::{Site, against_three_nodes, digest, lines};

const REPO: &str = "regctl/multi";
const SBOM: &str = "application/vnd.example.sbom";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regctl_copies_attaches_lists_and_deletes() {
    against_three_nodes("regctl", &["regctl"], run).await;
}

async fn run(site: &mut Site) -> Result<()> {
    let regctl = site.tool("regctl", &["version"]).await?;
    let (push, pull, delete) = (site.push(), site.pull(), site.delete());
    for node in [&push, &pull, &delete] {
        regctl.run(&["registry", "set", "--tls", "disabled", node]).await?;
    }
    let (layout, index) = Layout::multi(&site.dir().join("layout"), "multi")?;
    let multi = Digest::sha256(&index);
    let from = format!("ocidir://{}:multi", layout.dir.display());
    for tag in ["v1", "v2"] {
        regctl.run(&["image", "copy", &from, &format!("{push}/{REPO}:{tag}")]).await?;
        ensure!(site.manifest(REPO, tag, Some(&multi)).await? == index);
    }
    let sbom = r#"{"packages":[]}"#;
    let put = ["artifact", "put", "--artifact-type", SBOM, "-m", "application/json", "--subject"];
    regctl.run_with(&[put.as_slice(), &[&format!("{push}/{REPO}:v1")]].concat(), sbom).await?;

    let image = format!("{pull}/{REPO}:v1");
    ensure!(digest(&regctl.run(&["image", "digest", &image]).await?)? == multi);
    let referrer = referrer(&regctl.run(&["artifact", "list", "--format", "{{json .}}", &image]).await?)?;
    let get = ["artifact", "get", "--filter-artifact-type", SBOM, "--subject", &image];
    ensure!(regctl.run(&get).await? == sbom);
    let back = site.dir().join("back");
    regctl.run(&["image", "copy", &image, &format!("ocidir://{}:multi", back.display())]).await?;
    ensure!(blobs(&back)? == blobs(&layout.dir)?, "what came back has other blobs");

    // An index of one of the three, made by the client.
    let create = ["index", "create", "--ref", &image, "--platform", "linux/arm64"];
    regctl.run(&[create.as_slice(), &[&format!("{pull}/{REPO}:arm")]].concat()).await?;
    let arm: Value = serde_json::from_slice(&site.manifest(REPO, "arm", None).await?)?;
    ensure!(arm["manifests"].as_array().is_some_and(|images| images.len() == 1), "{arm}");
    ensure!(lines(&regctl.run(&["tag", "ls", &format!("{pull}/{REPO}")]).await?) == ["arm", "v1", "v2"]);

    // Three configurations, six layers, and of the artifact its file and the empty configuration.
    let before = site.mounted().await?;
    let copy = ["image", "copy", "--referrers", &image, &format!("{pull}/regctl/copied:v1")];
    regctl.run(&copy).await?;
    let after = site.mounted().await?;
    ensure!((after.0 - before.0, after.1 - before.1) == (11.0, 0.0), "{before:?}, then {after:?}");
    let copied = format!("{delete}/regctl/copied:v1");
    let copied = regctl.run(&["artifact", "list", "--format", "{{json .}}", &copied]).await?;
    ensure!(self::referrer(&copied)? == referrer);
    ensure!(lines(&regctl.run(&["repo", "ls", &pull]).await?) == ["regctl/copied", REPO]);

    let login = ["registry", "login", "-u", "admin", "--pass-stdin", &delete];
    regctl.refused(&["manifest", "delete", &format!("{delete}/{REPO}@{referrer}")]).await?;
    regctl.run_with(&login, &site.token()?).await?;
    regctl.run(&["tag", "delete", &format!("{delete}/{REPO}:v2")]).await?;
    site.gone(REPO, "v2").await?;
    site.manifest(REPO, "v1", Some(&multi)).await?;
    regctl.run(&["manifest", "delete", &format!("{delete}/{REPO}@{multi}")]).await?;
    site.gone(REPO, "v1").await?;
    site.gone(REPO, &multi.to_string()).await
}

/// The one referrer that `regctl artifact list` shows, an SBOM.
fn referrer(json: &str) -> Result<Digest> {
    let found: Value = serde_json::from_str(json)?;
    let descriptors = found["descriptors"].as_array().context("no list of descriptors")?;
    ensure!(descriptors.len() == 1 && descriptors[0]["artifactType"] == SBOM, "{found}");
    digest(descriptors[0]["digest"].as_str().context("no digest")?)
}
