//! buildah: images built from nothing for two architectures. It has no verb to delete with in a registry.

use anyhow::{Result, ensure};
use chaos_tests::tool::Tool;
use serde_json::Value;
use trow_raft::Digest;

use super::site::{Site, against_three_nodes};

const REPO: &str = "buildah/app";
const PLAIN: &str = "--tls-verify=false";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buildah_builds_pushes_and_pulls_a_multi_architecture_image() {
    against_three_nodes("buildah", &["buildah"], run).await;
}

async fn run(site: &mut Site) -> Result<()> {
    let buildah = site.tool("buildah", &["--version"]).await?;
    let (root, run) = (buildah.home().join("root"), buildah.home().join("run"));
    let (root, run) = (root.display().to_string(), run.display().to_string());
    let buildah = buildah.with(&["--root", &root, "--runroot", &run, "--storage-driver", "vfs"]);
    let login = ["login", PLAIN, "-u", "admin", "--password-stdin", &site.push()];
    buildah.run_with(&login, &site.token()?).await?;
    for architecture in ["amd64", "arm64"] {
        build(&buildah, architecture).await?;
    }
    let image = format!("docker://{}/{REPO}:v1", site.push());
    buildah.run(&["manifest", "push", "--all", PLAIN, "multi", &image]).await?;
    let one = format!("docker://{}/{REPO}:amd64", site.push());
    buildah.run(&["push", PLAIN, "localhost/amd64", &one]).await?;
    let list = site.manifest(REPO, "v1", None).await?;
    let parsed: Value = serde_json::from_slice(&list)?;
    ensure!(parsed["manifests"].as_array().is_some_and(|images| images.len() == 2), "{parsed}");

    // Into an empty store, so that every byte comes from the node.
    buildah.run(&["rm", "--all"]).await?;
    buildah.run(&["rmi", "--all", "--force"]).await?;
    for (tag, architecture) in [("v1", "arm64"), ("amd64", "amd64")] {
        let image = format!("{}/{REPO}:{tag}", site.pull());
        let from = ["from", PLAIN, "--arch", architecture, "--name", tag, &image];
        buildah.run(&from).await?;
        let mounted = buildah.run(&["mount", tag]).await?;
        let file = std::path::Path::new(mounted.trim()).join("etc/architecture");
        ensure!(std::fs::read_to_string(&file)? == architecture, "{} has other bytes", file.display());
        buildah.run(&["umount", tag]).await?;
        let digest = Digest::sha256(&site.manifest(REPO, tag, None).await?);
        site.remove(REPO, &digest).await?;
        site.gone(REPO, tag).await?;
    }
    Ok(())
}

/// Builds an image of one file for an architecture, and adds it to the list `multi`.
async fn build(buildah: &Tool, architecture: &str) -> Result<()> {
    let file = buildah.home().join(architecture);
    std::fs::write(&file, architecture)?;
    buildah.run(&["from", "--arch", architecture, "--name", architecture, "scratch"]).await?;
    let copy = ["copy", architecture, &file.display().to_string(), "/etc/architecture"];
    buildah.run(&copy).await?;
    let commit = ["commit", "--format", "oci", "--manifest", "multi", architecture];
    buildah.run(&[commit.as_slice(), &[&format!("localhost/{architecture}")]].concat()).await.map(drop)
}
