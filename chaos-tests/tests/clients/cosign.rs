//! cosign: signatures with a key, as referrers and under tags, without a transparency log.

use anyhow::{Context, Result, ensure};
use chaos_tests::layout::Layout;
use chaos_tests::tool::Tool;
use trow_raft::Digest;

use super::site::{Site, against_three_nodes};

const PLAIN: &str = "--allow-http-registry";
const OFFLINE: [&str; 2] = ["--use-signing-config=false", "--tlog-upload=false"];
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cosign_signs_and_verifies_by_referrer_and_by_tag() {
    against_three_nodes("cosign", &["cosign", "crane"], run).await;
}

async fn run(site: &mut Site) -> Result<()> {
    let cosign = site.tool("cosign", &["version"]).await?.env("COSIGN_PASSWORD", "");
    cosign.run(&["generate-key-pair"]).await?;
    cosign.run(&["generate-key-pair", "--output-key-prefix", "other"]).await?;
    let crane = site.tool("crane", &["version"]).await?;
    let (layout, index) = Layout::multi(&site.dir().join("layout"), "multi")?;
    let digest = Digest::sha256(&index);
    for repo in ["signed/by-referrer", "signed/by-tag"] {
        let image = format!("{}/{repo}:v1", site.push());
        crane.run(&["push", &layout.dir.display().to_string(), &image]).await?;
    }
    by_referrer(site, &cosign, &digest).await?;
    by_tag(site, &cosign, &digest).await
}

async fn by_referrer(site: &Site, cosign: &Tool, digest: &Digest) -> Result<()> {
    let repo = "signed/by-referrer";
    let image = |node: String| format!("{node}/{repo}@{digest}");
    check(cosign, &[], &image(site.pull()), false).await?;
    let sign = [&["sign", "--yes", "--key", "cosign.key", PLAIN], OFFLINE.as_slice()].concat();
    cosign.run(&[sign.as_slice(), &[&image(site.push())]].concat()).await?;
    check(cosign, &[], &image(site.pull()), true).await?;
    let node = site.cluster.nodes[2].client();
    let request = node.request(reqwest::Method::GET, &format!("/v2/{repo}/referrers/{digest}"));
    let list = node.send("GET referrers", request).await?;
    let list: serde_json::Value = serde_json::from_slice(&list.body)?;
    ensure!(list["manifests"][0]["artifactType"] == BUNDLE, "the signature is no referrer: {list}");
    let signature = list["manifests"][0]["digest"].as_str().context("no digest")?.parse()?;
    // As any manifest is deleted.
    site.remove(repo, &signature).await?;
    check(cosign, &[], &image(site.pull()), false).await
}

async fn by_tag(site: &Site, cosign: &Tool, digest: &Digest) -> Result<()> {
    let (repo, old) = ("signed/by-tag", "--new-bundle-format=false");
    let image = |node: String| format!("{node}/{repo}@{digest}");
    let sign = [&["sign", "--yes", "--key", "cosign.key", PLAIN, old], OFFLINE.as_slice()].concat();
    cosign.run(&[sign.as_slice(), &[&image(site.push())]].concat()).await?;
    let tag = format!("sha256-{}.sig", digest.hex());
    site.manifest(repo, &tag, None).await?;
    check(cosign, &[old], &image(site.pull()), true).await?;

    let clean = ["clean", "-f", "--type", "signature", PLAIN, &image(site.delete())];
    let login = ["login", &site.delete(), "-u", "admin", "--password-stdin"];
    cosign.run_with(&login, &site.token()?).await?;
    cosign.run(&clean).await?;
    site.gone(repo, &tag).await?;
    check(cosign, &[old], &image(site.pull()), false).await
}

/// That the image is signed with the key, or not; never with another one.
async fn check(cosign: &Tool, form: &[&str], image: &str, signed: bool) -> Result<()> {
    let verify =
        |key| [&["verify", "--key", key, "--insecure-ignore-tlog=true", PLAIN], form, &[image]].concat();
    if signed {
        cosign.run(&verify("cosign.pub")).await?;
    } else {
        let refused = cosign.refused(&verify("cosign.pub")).await?;
        ensure!(refused.contains("no signatures found"), "{refused}");
    }
    cosign.refused(&verify("other.pub")).await.map(drop)
}
