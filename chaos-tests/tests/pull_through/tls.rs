//! Registries with a certificate of an authority of one's own, reached directly and through a proxy.

use anyhow::{Result, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::image::Image;
use chaos_tests::report::scenario;
use chaos_tests::upstream::Upstream;

use super::site::{KEEPS, LIMIT, REPO, pull, until};
use super::way::{Proxy, Tls};

/// A name that means nothing to this machine, but something to the proxy.
const FAR: &str = "registry.far.invalid";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_is_trusted_when_it_is_named_and_a_proxy_leads_nowhere_else() {
    scenario("TLS and a proxy", LIMIT * 3, run()).await;
}

async fn run() -> Result<()> {
    let upstream = Upstream::start().await?;
    let image = Image::random(&[300_000, 2000]);
    upstream.add(REPO, "v1", &image);
    let dir = tempfile::tempdir()?;
    let (ca, other, trusted) = (dir.path().join("ca"), dir.path().join("other"), dir.path().join("trusted"));
    let tls = Tls::before(&upstream.address, &["localhost", "127.0.0.1", FAR], &ca).await?;
    let strange = Tls::before(&upstream.address, &["localhost"], &other).await?;
    std::fs::copy(&other, &trusted)?;
    let proxy = Proxy::to(tls.port).await?;
    let registry = |name: &str, endpoint: &str, more: &str| {
        format!("[upstream.\"{name}.example\"]\nendpoint = \"https://{endpoint}\"\n{more}\n")
    };
    let named = format!("allow_private = true\nca = {ca:?}");
    let config = [
        KEEPS.to_owned(),
        // Through the proxy.
        registry("trusting", &format!("localhost:{}", tls.port), &named),
        registry(
            "changing",
            &format!("localhost:{}", tls.port),
            &format!("allow_private = true\nca = {trusted:?}"),
        ),
        registry("unnamed", &format!("localhost:{}", tls.port), "allow_private = true"),
        registry("far", &format!("{FAR}:8443"), &named),
        registry("far-public", &format!("{FAR}:8443"), &format!("ca = {ca:?}")),
        registry("private", &format!("localhost:{}", tls.port), &format!("ca = {ca:?}")),
        // Past it.
        registry("near", &format!("127.0.0.1:{}", tls.port), &named),
        registry("near-private", &format!("127.0.0.1:{}", tls.port), &format!("ca = {ca:?}")),
        registry("strange", &format!("127.0.0.1:{}", strange.port), &named),
    ]
    .concat();
    let plan = Plan::of(3).config(&config);
    // Other nodes are not asked through it, or there would be no cluster.
    let plan = plan.env("HTTPS_PROXY", &format!("http://{}", proxy.address));
    let plan = plan.env("HTTP_PROXY", "http://127.0.0.1:1").env("NO_PROXY", "127.0.0.1,*.elsewhere.invalid");
    let mut cluster = Cluster::start(plan).await?;
    let clients = cluster.clients();
    let here = |name: &str| format!("f/{name}.example/{REPO}");
    let told =
        |to: &str| proxy.asked().iter().filter(|line| line.starts_with(&format!("CONNECT {to}:"))).count();

    // Past the proxy first, so that what is seen there is of what follows.
    pull(&clients[0], &here("near"), "v1", &image).await?;
    ensure!(proxy.asked().is_empty(), "NO_PROXY: {:?}", proxy.asked());
    pull(&clients[1], &here("trusting"), "v1", &image).await?;
    ensure!(told("localhost") > 0, "{:?}", proxy.asked());
    pull(&clients[2], &here("far"), "v1", &image).await?;
    ensure!(told(FAR) > 0, "{:?}", proxy.asked());

    let refused = async |name: &str, why: &str| {
        for client in &clients {
            let answer = client.manifest(&here(name), "v1").await?;
            let said = String::from_utf8_lossy(&answer.body).to_lowercase();
            ensure!(!answer.ok() && answer.status < 504 && said.contains(why), "{name}, for {why}: {answer}");
        }
        anyhow::Ok(())
    };
    for name in ["unnamed", "changing", "strange"] {
        refused(name, "certificate").await?;
    }
    let (tunnels, requests) = (proxy.asked().len(), upstream.seen().len());
    for name in ["private", "near-private", "far-public"] {
        refused(name, "").await?;
    }
    ensure!(proxy.asked().len() == tunnels, "the proxy was asked for what may not be: {:?}", proxy.asked());
    ensure!(upstream.seen().len() == requests, "{:?}", upstream.seen());

    // The file of authorities changes while the nodes run.
    std::fs::copy(&ca, &trusted)?;
    for client in &clients {
        until("the new authority is trusted", async || {
            Ok(client.manifest(&here("changing"), "v1").await?.body == image.manifest)
        })
        .await?;
    }
    cluster.done();
    Ok(())
}
