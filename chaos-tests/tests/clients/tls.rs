//! Every client over TLS, with a certificate that a CA of one's own signed, each told of it in its own way.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use chaos_tests::cluster::Cluster;
use chaos_tests::layout::{Layout, blobs};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use trow_raft::Digest;

use super::site::{NAME, Site, against_prepared_nodes, digest};
use chaos_tests::containerd::Containerd;

const REPO: &str = "tls/multi";
const CHART: &str = "charts/app";
const PROGRAMS: [&str; 11] = [
    "buildah",
    "containerd",
    "cosign",
    "crane",
    "ctr",
    "helm",
    "oras",
    "podman",
    "regctl",
    "skopeo",
    "unshare",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_speaks_tls_with_a_ca_of_ones_own() {
    against_prepared_nodes("clients over TLS", &PROGRAMS, third_speaks_tls, run).await;
}

/// The third node gets a certificate for its address; the others stay plain.
fn third_speaks_tls(cluster: &mut Cluster) -> Result<()> {
    let dir = cluster.root().join("tls");
    std::fs::create_dir(&dir)?;
    let (ca_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(dir.join("ca.crt"), ca.self_signed(&ca_key)?.pem())?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    let certificate = certificate.signed_by(&key, &Issuer::new(ca, &ca_key))?;
    // Beside the CA's, these would be taken for the client's own certificate and key.
    let (cert, secret) = (cluster.root().join("server.pem"), cluster.root().join("server.secret"));
    std::fs::write(&cert, certificate.pem())?;
    std::fs::write(&secret, key.serialize_pem())?;
    let text = |path: PathBuf| path.display().to_string();
    let flags = ["--tls-cert".to_owned(), text(cert), "--tls-key".to_owned(), text(secret)];
    cluster.nodes[2].command.extend(flags);
    Ok(())
}

async fn run(site: &mut Site) -> Result<()> {
    let (layout, index) = Layout::multi(&site.dir().join("layout"), "multi")?;
    let digest = Digest::sha256(&index);
    let dir = site.dir().join("tls").display().to_string();
    let ca = site.dir().join("tls/ca.crt").display().to_string();
    containers(site, &layout, &dir).await?;
    containerd(site, &layout, &ca).await?;
    go(site, &digest, &ca).await
}

/// skopeo, podman and buildah: a directory of certificates.
async fn containers(site: &Site, layout: &Layout, certs: &str) -> Result<()> {
    let address = site.delete();
    let (from, image) = (format!("oci:{}", layout.dir.display()), format!("{address}/{REPO}:v1"));
    let skopeo = site.tool("skopeo", &["--version"]).await?;
    let copy = ["copy", "--all", "--preserve-digests"];
    let remote = format!("docker://{image}");
    skopeo.refused(&[copy.as_slice(), &[&from, &remote]].concat()).await?;
    skopeo.run(&[copy.as_slice(), &["--dest-cert-dir", certs, &from, &remote]].concat()).await?;
    let back = site.dir().join("back");
    let to = format!("oci:{}:multi", back.display());
    skopeo.run(&[copy.as_slice(), &["--src-cert-dir", certs, &remote, &to]].concat()).await?;
    ensure!(blobs(&back)? == blobs(&layout.dir)?, "what came back has other blobs");
    for name in ["podman", "buildah"] {
        let tool = site.tool(name, &["--version"]).await?;
        let (root, run) = (tool.home().join("root"), tool.home().join("run"));
        let (root, run) = (root.display().to_string(), run.display().to_string());
        let tool = tool.with(&["--root", &root, "--runroot", &run, "--storage-driver", "vfs"]);
        tool.refused(&["pull", &image]).await?;
        let login = ["login", "--cert-dir", certs, "-u", "admin", "--password-stdin", &address];
        tool.run_with(&login, &site.token()?).await?;
        tool.run(&["pull", "--cert-dir", certs, &image]).await?;
        let copy = format!("docker://{address}/tls/{name}:v1");
        tool.run(&["push", "--cert-dir", certs, &image, &copy]).await?;
    }
    Ok(())
}

/// containerd: `ca` in `hosts.toml`.
async fn containerd(site: &Site, layout: &Layout, ca: &str) -> Result<()> {
    let containerd = Containerd::start(site.dir())?;
    let socket = containerd.socket.display().to_string();
    let ctr = site.tool("ctr", &["--version"]).await?.with(&["--address", &socket]);
    containerd.ready(&ctr).await?;
    let (hosts, url) = (site.dir().join("hosts"), format!("https://{}", site.delete()));
    let text = format!(
        "server = \"{url}\"\nca = \"{ca}\"\n\n[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = \"{ca}\"\n"
    );
    std::fs::create_dir_all(hosts.join(NAME))?;
    std::fs::write(hosts.join(NAME).join("hosts.toml"), text)?;
    let (hosts, image) = (hosts.display().to_string(), format!("{NAME}/{REPO}:v1"));
    ctr.run(&["content", "fetch", "--hosts-dir", &hosts, "--all-platforms", &image]).await?;
    ensure!(containerd.blobs()? == blobs(&layout.dir)?, "containerd has other blobs");
    Ok(())
}

/// The others: a file, or where they have no flag for it, what Go looks at.
async fn go(site: &Site, multi: &Digest, ca: &str) -> Result<()> {
    let (address, token) = (site.delete(), site.token()?);
    let image = format!("{address}/{REPO}:v1");
    let oras = site.tool("oras", &["version"]).await?;
    oras.refused(&["resolve", &image]).await?;
    ensure!(digest(&oras.run(&["resolve", "--ca-file", ca, &image]).await?)? == *multi);
    oras.run_with(&["login", "--ca-file", ca, "-u", "admin", "--password-stdin", &address], &token).await?;

    let regctl = site.tool("regctl", &["version"]).await?;
    let pem = std::fs::read_to_string(ca).context("read the CA's certificate")?;
    regctl.run(&["registry", "set", "--cacert", &pem, &address]).await?;
    ensure!(digest(&regctl.run(&["image", "digest", &image]).await?)? == *multi);

    let helm = site.tool("helm", &["version"]).await?;
    let login = ["registry", "login", "--ca-file", ca, "-u", "admin", "--password-stdin", &address];
    helm.run_with(&login, &token).await?;
    helm.run(&["create", "app"]).await?;
    helm.run(&["package", "app", "--version", "1.2.3"]).await?;
    helm.run(&["push", "--ca-file", ca, "app-1.2.3.tgz", &format!("oci://{address}/charts")]).await?;
    let chart = format!("oci://{address}/{CHART}");
    let shown = helm.run(&["show", "chart", "--ca-file", ca, &chart, "--version", "1.2.3"]).await?;
    ensure!(shown.contains("version: 1.2.3"), "{shown}");

    let cosign = site.tool("cosign", &["version"]).await?.env("COSIGN_PASSWORD", "");
    cosign.run(&["generate-key-pair"]).await?;
    let (signed, ca_flag) = (format!("{address}/{REPO}@{multi}"), format!("--registry-cacert={ca}"));
    let sign = ["sign", "--yes", "--key", "cosign.key", &ca_flag, "--use-signing-config=false"];
    cosign.run(&[sign.as_slice(), &["--tlog-upload=false", &signed]].concat()).await?;
    let verify = ["verify", "--key", "cosign.pub", "--insecure-ignore-tlog=true", &ca_flag, &signed];
    cosign.run(&verify).await?;

    // crane has no flag; on loopback it would go on in plain HTTP, which this node does not speak.
    let crane = site.tool("crane", &["version"]).await?;
    crane.refused(&["digest", &image]).await?;
    let crane = crane.env("SSL_CERT_FILE", ca);
    crane.run_with(&["auth", "login", &address, "-u", "admin", "--password-stdin"], &token).await?;
    crane.run(&["delete", &format!("{address}/{REPO}@{multi}")]).await?;
    let refused = crane.refused(&["digest", &image]).await?;
    ensure!(refused.contains("404") || refused.contains("MANIFEST_UNKNOWN"), "{refused}");
    for node in &site.cluster.nodes[..2] {
        let found = node.client().manifest(REPO, "v1").await?;
        ensure!(found.status == 404, "{} has what was deleted", node.name);
    }
    Ok(())
}
