//! helm: charts. It has no verb to delete with.

use anyhow::{Result, ensure};
use chaos_tests::layout::hash;
use trow_raft::Digest;

use super::site::{Site, against_three_nodes};

const PLAIN: &str = "--plain-http";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helm_pushes_shows_and_pulls_charts() {
    against_three_nodes("helm", &["helm"], run).await;
}

async fn run(site: &mut Site) -> Result<()> {
    let helm = site.tool("helm", &["version"]).await?;
    let login = ["registry", "login", PLAIN, "-u", "admin", "--password-stdin", &site.push()];
    helm.run_with(&login, &site.token()?).await?;
    helm.run(&["create", "app"]).await?;
    for version in ["1.2.3", "1.3.0"] {
        helm.run(&["package", "app", "--version", version]).await?;
        let archive = format!("app-{version}.tgz");
        helm.run(&["push", PLAIN, &archive, &format!("oci://{}/charts", site.push())]).await?;
    }
    let chart = format!("oci://{}/charts/app", site.pull());
    let shown = helm.run(&["show", "chart", PLAIN, &chart, "--version", "1.2.3"]).await?;
    ensure!(shown.contains("version: 1.2.3") && shown.contains("name: app"), "{shown}");
    let rendered = helm.run(&["template", PLAIN, "one", &chart, "--version", "1.2.3"]).await?;
    ensure!(rendered.contains("kind: Deployment"), "{rendered}");

    let back = helm.home().join("back");
    std::fs::create_dir(&back)?;
    helm.run(&["pull", PLAIN, &chart, "--version", "1.2.3", "-d", "back"]).await?;
    // A range of versions is resolved from the list of tags.
    helm.run(&["pull", PLAIN, &chart, "--version", "^1.0", "-d", "back"]).await?;
    for version in ["1.2.3", "1.3.0"] {
        let archive = format!("app-{version}.tgz");
        let (sent, came) = (hash(&helm.home().join(&archive))?, hash(&back.join(&archive))?);
        ensure!(sent == came, "{archive} came back with other bytes");
        let manifest = site.manifest("charts/app", version, None).await?;
        ensure!(
            String::from_utf8_lossy(&manifest).contains(&sent.0.hex()),
            "{archive} is not in its manifest"
        );
        site.remove("charts/app", &Digest::sha256(&manifest)).await?;
    }
    helm.refused(&["pull", PLAIN, &chart, "--version", "1.2.3"]).await?;
    Ok(())
}
