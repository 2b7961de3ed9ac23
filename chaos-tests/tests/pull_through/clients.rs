//! Clients that people have, set up by `trow node-config`, pull through the nodes; and again when the registry is
//! gone. Where they would go without the nodes leads nowhere.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use chaos_tests::binary;
use chaos_tests::containerd::Containerd;
use chaos_tests::layout::{Layout, blobs};
use chaos_tests::require;
use chaos_tests::tool::Tool;
use chaos_tests::upstream::Kind;
use trow_raft::Digest;

use super::site::{REPO, Site, through_three_nodes};

const IMAGE: &str = "docker.io/library/app";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn podman_and_skopeo_pull_by_what_node_config_writes_also_without_the_registry() {
    if require::tools(&["podman", "skopeo"]) {
        through_three_nodes("podman and skopeo through a mirror", "", containers).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containerd_pulls_by_what_node_config_writes_also_without_the_registry() {
    if !rustix::process::geteuid().is_root() {
        require::not_run("containerd takes root");
    } else if require::tools(&["containerd", "ctr", "unshare"]) {
        through_three_nodes("containerd through a mirror", "", containerd).await;
    }
}

/// Has `trow node-config` write the files for a machine whose mirrors are the second node and the third.
fn configured(site: &Site, runtime: &str) -> Result<PathBuf> {
    let dir = site.cluster.root().join(runtime);
    let mut command = Command::new(binary::trow());
    command.args(["node-config", runtime, "--upstream", "docker.io", "--write"]).arg(&dir);
    for node in &site.cluster.nodes[1..] {
        command.args(["--mirror", &format!("http://{}", node.client)]);
    }
    let output = command.output().context("run trow node-config")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(dir)
}

/// A multi-architecture image that the registry has under two tags.
fn image(site: &Site) -> Result<(Layout, Digest)> {
    let (layout, index) = Layout::multi(&site.cluster.root().join("layout"), "multi")?;
    let digest = Digest::sha256(&index);
    site.upstream.add_layout(REPO, "v1", &layout.dir, &digest)?;
    Ok((layout, digest))
}

fn fetched(site: &Site) -> (usize, usize) {
    (site.upstream.count("GET", Kind::Manifest), site.upstream.count("GET", Kind::Blob))
}

async fn containers(site: &mut Site) -> Result<()> {
    let (layout, index) = image(site)?;
    let conf = configured(site, "crio")?.join("registries.conf.d/50-trow.conf").display().to_string();
    let tool = |name: &str| {
        Ok::<_, anyhow::Error>(Tool::new(name, site.cluster.root())?.env("CONTAINERS_REGISTRIES_CONF", &conf))
    };
    // skopeo takes the file by a flag, podman by a variable.
    let skopeo = tool("skopeo")?.with(&["--registries-conf", &conf]);
    let podman = tool("podman")?;
    for tool in [&skopeo, &podman] {
        // Where credentials would be must be a file.
        std::fs::write(tool.home().join("auth.json"), "{}")?;
    }
    skopeo.version(&["--version"]).await?;
    podman.version(&["--version"]).await?;
    let (root, run) = (podman.home().join("root"), podman.home().join("run"));
    let (root, run) = (root.display().to_string(), run.display().to_string());
    let podman = podman.with(&["--root", &root, "--runroot", &run, "--storage-driver", "vfs"]);
    let (tagged, by_digest) = (format!("{IMAGE}:v1"), format!("{IMAGE}@{index}"));

    // One architecture first.
    podman.run(&["pull", &tagged]).await?;
    let found = podman.run(&["images", "--no-trunc", "--digests"]).await?;
    ensure!(found.contains(IMAGE), "{found}");
    ensure!(
        fetched(site) == (2, 3),
        "manifests and blobs of one architecture: {:?}\n{}",
        fetched(site),
        site.asked()
    );
    let copy = async |to: &str| {
        let back = skopeo.home().join(to);
        let to = format!("oci:{}:v1", back.display());
        skopeo.run(&["copy", "--all", "--preserve-digests", &format!("docker://{tagged}"), &to]).await?;
        ensure!(blobs(&back)? == blobs(&layout.dir)?, "{to} has other blobs");
        anyhow::Ok(())
    };
    copy("first").await?;
    let all = blobs(&layout.dir)?.len();
    ensure!(fetched(site) == (4, all - 4), "each once: {:?} of {all}\n{}", fetched(site), site.asked());

    site.upstream.down().await;
    podman.run(&["rmi", "--all", "--force"]).await?;
    podman.run(&["pull", &tagged]).await?;
    podman.run(&["rmi", "--all", "--force"]).await?;
    podman.run(&["pull", &by_digest]).await?;
    copy("second").await?;
    // The first mirror dies too.
    site.cluster.nodes[1].kill();
    copy("third").await?;
    podman.refused(&["pull", "docker.io/library/other:v1"]).await.map(drop)
}

async fn containerd(site: &mut Site) -> Result<()> {
    let (layout, index) = image(site)?;
    let hosts = configured(site, "containerd")?.display().to_string();
    Tool::new("containerd", site.cluster.root())?.version(&["--version"]).await?;
    let containerd = Containerd::start(site.cluster.root())?;
    let address = containerd.socket.display().to_string();
    let ctr = Tool::new("ctr", site.cluster.root())?.with(&["--address", &address]);
    containerd.ready(&ctr).await?;
    let (tagged, by_digest) = (format!("{IMAGE}:v1"), format!("{IMAGE}@{index}"));
    let pull = async |image: &str| {
        ctr.run(&["images", "pull", "--hosts-dir", &hosts, "--snapshotter", "native", image]).await
    };
    let fetch = async |image: &str| {
        ctr.run(&["content", "fetch", "--hosts-dir", &hosts, "--all-platforms", image]).await?;
        ensure!(containerd.blobs()? == blobs(&layout.dir)?, "{image} came with other blobs");
        anyhow::Ok(())
    };
    let forget = async || {
        for image in [&tagged, &by_digest] {
            ctr.run(&["images", "rm", "--sync", image]).await?;
        }
        ensure!(containerd.blobs()?.is_empty(), "containerd keeps blobs that no image names");
        anyhow::Ok(())
    };
    pull(&tagged).await?;
    ensure!(
        fetched(site) == (2, 3),
        "manifests and blobs of one architecture: {:?}\n{}",
        fetched(site),
        site.asked()
    );
    fetch(&tagged).await?;
    let all = blobs(&layout.dir)?.len();
    ensure!(fetched(site) == (4, all - 4), "each once: {:?} of {all}\n{}", fetched(site), site.asked());

    site.upstream.down().await;
    forget().await?;
    pull(&tagged).await?;
    forget().await?;
    fetch(&by_digest).await?;
    forget().await?;
    // The first mirror dies too.
    site.cluster.nodes[1].kill();
    pull(&tagged).await?;
    let refused =
        ctr.refused(&["images", "pull", "--hosts-dir", &hosts, "docker.io/library/other:v1"]).await?;
    ensure!(!refused.is_empty());
    parsed(Path::new(&hosts))
}

/// What was written is what was read: containerd passes by a file with an error in it without a word.
fn parsed(hosts: &Path) -> Result<()> {
    let text = std::fs::read_to_string(hosts.join("docker.io/hosts.toml"))?;
    ensure!(text.matches("[host.\"http://127.0.0.1:").count() == 2, "{text}");
    Ok(())
}
