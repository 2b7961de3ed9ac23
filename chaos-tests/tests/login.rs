//! skopeo logs in, pushes through one node and pulls through another, with anonymous pull on and
//! off; whoever is not logged in, or logged in wrongly, is refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::image::MANIFEST;
use chaos_tests::report::scenario;
use chaos_tests::require;
use serde_json::json;
use tokio::process::Command;
use trow_raft::Digest;

/// alice with the password wonderland; made by Apache's `htpasswd -nbB -C 4`.
const USERS: &str = "alice:$2y$04$8ox/WekXgAn7aFnrMmCaUumNyZResatqlWRAbiq1pkZ87v2Spqkm6\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_logs_in_and_nobody_else_pushes() {
    if require::tools(&["skopeo"]) {
        scenario("login", Duration::from_secs(180), run()).await;
    }
}

async fn run() -> Result<()> {
    for anonymous_pull in [true, false] {
        mode(anonymous_pull).await.with_context(|| format!("anonymous_pull = {anonymous_pull}"))?;
    }
    Ok(())
}

async fn mode(anonymous_pull: bool) -> Result<()> {
    let own = tempfile::tempdir()?;
    let users = own.path().join("users");
    std::fs::write(&users, USERS)?;
    let settings = format!("[auth]\nhtpasswd = {users:?}\nanonymous_pull = {anonymous_pull}\n");
    let cluster = Cluster::start(Plan::of(3).config(&settings)).await?;
    let image = own.path().join("image");
    write_image(&image)?;
    let skopeo = Skopeo { auth_file: own.path().join("auth.json") };
    let at = |node: usize, tag: &str| format!("docker://{}/a/b:{tag}", cluster.nodes[node].client);
    let from = format!("dir:{}", image.display());
    let (push, out) =
        (["copy", "--preserve-digests", "--dest-tls-verify=false", &from], own.path().join("out"));
    let to = format!("dir:{}", out.display());

    skopeo.refused(&[&push[..], &[&at(0, "v1")]].concat(), "unauthorized").await?;
    for node in 0..3 {
        let host = cluster.nodes[node].client.to_string();
        let login = ["login", "--tls-verify=false", "-u", "alice", "-p"];
        skopeo
            .refused(&[&login[..], &["looking-glass", &host]].concat(), "invalid username/password")
            .await?;
        skopeo.done(&[&login[..], &["wonderland", &host]].concat()).await?;
    }
    skopeo.done(&[&push[..], &[&at(0, "v1")]].concat()).await?;
    skopeo.done(&["copy", "--preserve-digests", "--src-tls-verify=false", &at(2, "v1"), &to]).await?;
    ensure!(std::fs::read(image.join("manifest.json"))? == std::fs::read(out.join("manifest.json"))?);

    let delete = ["delete", "--tls-verify=false"];
    skopeo.refused(&[&delete[..], &[&at(1, "v1")]].concat(), "403").await?;
    let logout = ["logout", "--all"];
    skopeo.done(&logout).await?;
    let inspect = ["inspect", "--raw", "--tls-verify=false", &at(1, "v1")];
    if anonymous_pull {
        skopeo.done(&inspect).await?;
    } else {
        skopeo.refused(&inspect, "unauthorized").await?;
    }
    let token = std::fs::read_to_string(&cluster.admin.token_file)?;
    let admin = format!("admin:{}", token.trim());
    skopeo.done(&[&delete[..], &["--creds", &admin, &at(1, "v1")]].concat()).await?;
    cluster.done();
    Ok(())
}

struct Skopeo {
    auth_file: PathBuf,
}

impl Skopeo {
    async fn run(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let mut command = Command::new("skopeo");
        command.arg("--insecure-policy").args(arguments).env("REGISTRY_AUTH_FILE", &self.auth_file);
        let output = command.kill_on_drop(true).output().await.context("run skopeo")?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
    }

    async fn done(&self, arguments: &[&str]) -> Result<()> {
        let (done, said) = self.run(arguments).await?;
        ensure!(done, "skopeo {arguments:?}: {said}");
        Ok(())
    }

    async fn refused(&self, arguments: &[&str], why: &str) -> Result<()> {
        let (done, said) = self.run(arguments).await?;
        ensure!(!done && said.contains(why), "skopeo {arguments:?}: {said}");
        Ok(())
    }
}

/// An image of one layer in the form of skopeo's `dir:`.
fn write_image(dir: &Path) -> Result<()> {
    std::fs::create_dir(dir)?;
    let layer = b"any bytes".as_slice();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(layer).to_string()]},
    })
    .to_string();
    let descriptor = |media: &str, bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        std::fs::write(dir.join(digest.hex()), bytes)?;
        anyhow::Ok(json!({"mediaType": media, "digest": digest.to_string(), "size": bytes.len()}))
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes())?,
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)?],
    });
    std::fs::write(dir.join("manifest.json"), manifest.to_string())?;
    std::fs::write(dir.join("version"), "Directory Transport Version: 1.1\n")?;
    Ok(())
}
