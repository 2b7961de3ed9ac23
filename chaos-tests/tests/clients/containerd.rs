//! containerd: the nodes as mirrors of a name in `hosts.toml`, where it says `ns=` with each request.

use std::path::Path;

use anyhow::{Result, ensure};
use chaos_tests::containerd::Containerd;
use chaos_tests::layout::{Layout, blobs};
use chaos_tests::require;
use trow_raft::Digest;

use super::site::{NAME, Site, against_three_nodes};

const REPO: &str = "containerd/multi";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containerd_pulls_by_mirror_also_when_a_node_dies_and_pushes() {
    if !rustix::process::geteuid().is_root() {
        require::not_run("containerd takes root");
        return;
    }
    against_three_nodes("containerd", &["containerd", "ctr", "skopeo", "unshare"], run).await;
}

async fn run(site: &mut Site) -> Result<()> {
    site.tool("containerd", &["--version"]).await?;
    let (skopeo, containerd) = (site.tool("skopeo", &["--version"]).await?, Containerd::start(site.dir())?);
    let address = containerd.socket.display().to_string();
    let ctr = site.tool("ctr", &["--version"]).await?.with(&["--address", &address]);
    containerd.ready(&ctr).await?;
    let (layout, index) = Layout::multi(&site.dir().join("layout"), "multi")?;
    let digest = Digest::sha256(&index);
    for tag in ["v1", "v2"] {
        let from = format!("oci:{}", layout.dir.display());
        let to = format!("docker://{}/{REPO}:{tag}", site.push());
        let copy = ["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", &from, &to];
        skopeo.run(&copy).await?;
    }
    let (hosts, mirrors) = (site.dir().join("hosts"), [site.pull(), site.delete()]);
    write_hosts(&hosts, NAME, &mirrors)?;
    write_hosts(&hosts, "192.0.2.1:5000", &mirrors)?;
    let hosts = hosts.display().to_string();
    let image = format!("{NAME}/{REPO}:v1");
    let pull = ["images", "pull", "--hosts-dir", &hosts, "--snapshotter", "native"];

    // The same nodes are mirrors of another name too, which is at an address where no registry is.
    let other = format!("192.0.2.1:5000/{REPO}:v1");
    let refused = ctr.refused(&[pull.as_slice(), &[&other]].concat()).await?;
    ensure!(refused.contains("503") || refused.contains("502"), "{refused}");
    ctr.run(&[pull.as_slice(), &[&image]].concat()).await?;
    let held = containerd.blobs()?;
    ensure!(
        held.contains(&digest.hex()) && held.len() < blobs(&layout.dir)?.len(),
        "one architecture is pulled"
    );
    ctr.run(&["content", "fetch", "--hosts-dir", &hosts, "--all-platforms", &image]).await?;
    ensure!(containerd.blobs()? == blobs(&layout.dir)?, "what came back has other blobs");

    let copy = format!("{}/containerd/pushed:v1", site.push());
    ctr.run(&["images", "tag", &image, &copy]).await?;
    let user = format!("admin:{}", site.token()?);
    ctr.run(&["images", "push", "--plain-http", "--user", &user, &copy]).await?;
    site.manifest("containerd/pushed", "v1", Some(&digest)).await?;
    site.remove("containerd/pushed", &digest).await?;

    // The first mirror dies, and everything is fetched again through the second.
    site.cluster.nodes[1].kill();
    for image in [image, copy] {
        ctr.run(&["images", "rm", "--sync", &image]).await?;
    }
    ensure!(containerd.blobs()?.is_empty(), "containerd keeps blobs that no image names");
    let image = format!("{NAME}/{REPO}:v2");
    ctr.run(&["content", "fetch", "--hosts-dir", &hosts, "--all-platforms", &image]).await?;
    ensure!(containerd.blobs()? == blobs(&layout.dir)?, "what came back has other blobs");
    Ok(())
}

/// Says that these nodes are mirrors of `name`.
fn write_hosts(dir: &Path, name: &str, mirrors: &[String]) -> Result<()> {
    let mut text = format!("server = \"http://{}\"\n", mirrors[0]);
    for mirror in mirrors {
        text.push_str(&format!("\n[host.\"http://{mirror}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"));
    }
    std::fs::create_dir_all(dir.join(name))?;
    Ok(std::fs::write(dir.join(name).join("hosts.toml"), text)?)
}
