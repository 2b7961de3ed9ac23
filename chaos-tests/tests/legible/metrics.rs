//! Every metric is as listed, and each is seen to change while a cluster lives through its worst day.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use chaos_tests::away;
use chaos_tests::client::{Client, location};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::content::Content;
use chaos_tests::exposed::METRICS;
use chaos_tests::fault::{Damage, damage};
use chaos_tests::image::{Image, MANIFEST};
use chaos_tests::process::Node;
use chaos_tests::report::scenario;
use chaos_tests::upstream::{Hold, Kind, Rule, Twist, Upstream};
use chaos_tests::webhook::{Verdict, Webhook};
use rcgen::{CertificateParams, KeyPair};
use reqwest::Method;
use trow_raft::Digest;

use super::watch::Watch;

const REPO: &str = "seen/image";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Two copies on three nodes, so that a blob can be where it does not belong; a grace so short that
/// repair begins while a node is away, and a rate so low that it is seen; a log so short that it is
/// cut, and who was away is sent the state.
const CONFIG: &str = "replication.factor = 2\nrepair.grace = \"2s\"\nrepair.rate = \"2MiB/s\"\n\
     uploads.max_bytes = \"64MiB\"\nraft.log_limit = \"1MiB\"\ncache.high = \"100%\"\ncache.low = \"99%\"\n";
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_is_listed_and_none_is_constant() {
    scenario("metrics", Duration::from_secs(240), run()).await;
}

#[test]
fn metrics_are_named_as_prometheus_asks() {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    for (index, metric) in METRICS.iter().enumerate() {
        let name = metric.name;
        assert!(METRICS[..index].iter().all(|other| other.name != name), "{name} is listed twice");
        assert!(name.chars().all(plain), "{name}");
        assert!(name.starts_with("trow_") || name.starts_with("process_"), "{name} does not say whose it is");
        assert!(!name.ends_with("_total") && !name.ends_with("_info"), "{name}: the kind brings the suffix");
        for unit in ["_ms", "_millis", "_milliseconds", "_minutes", "_kib", "_mib", "_kilobytes", "_percent"]
        {
            assert!(!name.contains(unit), "{name} is in no base unit");
        }
        assert!(metric.kind != "histogram" || name.ends_with("_seconds"), "{name} has no unit");
        for (label, _) in metric.labels {
            assert!(label.chars().all(plain) && *label != "le", "{name}: {label}");
        }
    }
}

async fn run() -> Result<()> {
    let mut watch = Watch::default();
    let upstream = Upstream::start().await?;
    let config = format!("{CONFIG}{}", upstream.settings("docker.io"));
    let mut cluster = Cluster::prepare(Plan::of(3).config(&config)).await?;
    watch.nodes_of(&cluster);
    for node in &mut cluster.nodes {
        let mut webhook: SocketAddr = node.ops.parse()?;
        webhook.set_port(webhook.port() + 1);
        node.command.extend(["--webhook-listen".to_owned(), webhook.to_string()]);
    }
    cluster.start_all().await?;
    let nodes = cluster.clients();
    let mut pushed = Vec::new();
    for (index, client) in nodes.iter().cycle().take(6).enumerate() {
        let image = Image::random(&[300_000, 1_500_000]);
        ensure!(image.push(client, REPO, &format!("v{index}")).await?.status == 201, "push {index}");
        pushed.push(image);
    }
    read_and_delete(&cluster, &nodes, &pushed).await?;
    pull_through(&upstream, &nodes[0], &watch).await?;
    another_authority(&cluster, &watch).await?;
    let token = nodes[0].start_upload(REPO).await?;
    let open = location(&token).context("an upload")?;
    ensure!(nodes[0].patch(&open, Content::random(1 << 20)).await?.status == 202, "a chunk");
    watch.until("trow_upload_bytes", "", |bytes| bytes > 0.0).await?;
    cluster.settled(LIMIT).await?;

    lose_the_leader(&mut cluster, &watch).await?;
    one_is_damaged(&cluster, &nodes, &pushed[1], &watch).await?;
    all_is_lost(&mut cluster, &pushed[2].blobs[1].0, &watch).await?;
    let speaks_tls = certificate_changes(&mut watch).await?;
    watch.judge()?;
    speaks_tls.done();
    cluster.done();
    Ok(())
}

/// Images of another registry, whose limit and what is left of it change.
async fn pull_through(upstream: &Upstream, client: &Client, watch: &Watch) -> Result<()> {
    for (limit, left) in [(100, 7), (200, 6)] {
        let (image, hold) = (Image::random(&[1_000_000]), Hold::default());
        let tag = format!("v{limit}");
        upstream.add("library/app", &tag, &image);
        upstream.behave();
        upstream.rule(Rule::new(Twist::Header("ratelimit-limit", format!("{limit};w=21600"))));
        upstream.rule(Rule::new(Twist::Header("ratelimit-remaining", format!("{left};w=21600"))));
        upstream.rule(Rule::new(Twist::Half(1000, hold.clone())).kind(Kind::Blob));
        let repo = "f/docker.io/library/app";
        ensure!(client.manifest(repo, &tag).await?.body == image.manifest, "the manifest of {tag}");
        let layer = image.blobs[1].0;
        let (pulled, seen) = tokio::join!(client.pull_blob(repo, &layer), async {
            let seen = watch.until("trow_upstream_requests_in_flight", "", |flying| flying > 0.0).await;
            hold.release();
            seen
        });
        ensure!(pulled?.digest == layer, "the layer of {tag}");
        seen?;
        for (name, value) in [("limit", limit), ("remaining", left)] {
            let name = format!("trow_upstream_ratelimit_{name}");
            watch.until(&name, "", |seen| seen == f64::from(value)).await?;
        }
        watch.once("trow_cache_bytes").await?;
    }
    Ok(())
}

/// The webhook's certificates come of another authority.
async fn another_authority(cluster: &Cluster, watch: &Watch) -> Result<()> {
    for name in ["certificate", "ca"] {
        watch.once(&format!("trow_webhook_{name}_expiry_timestamp_seconds")).await?;
    }
    let server = &cluster.nodes[0].client;
    let (_, bundle, _) = cluster.admin.run(server, &["webhook", "ca"]).await?;
    let mut webhook: SocketAddr = cluster.nodes[0].ops.parse()?;
    webhook.set_port(webhook.port() + 1);
    let review = serde_json::json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "seen", "operation": "CREATE", "namespace": "default",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "object": { "apiVersion": "v1", "kind": "Pod", "spec": { "containers": [{ "name": "a", "image": "a" }] } },
        },
    });
    let verdict = Webhook::new(&webhook.to_string(), &bundle)?.validate(&review).await?;
    ensure!(verdict == Verdict::Allowed, "there is no policy, and yet: {verdict:?}");
    let (code, _, why) = cluster.admin.run(server, &["webhook", "ca", "--replace"]).await?;
    ensure!(code == 0, "another authority: {why}");
    Ok(())
}

/// Every image through every node, a name that is not there, and a tag that goes.
async fn read_and_delete(cluster: &Cluster, nodes: &[Client], pushed: &[Image]) -> Result<()> {
    for client in nodes {
        for (index, image) in pushed.iter().enumerate() {
            let manifest = client.manifest(REPO, &format!("v{index}")).await?;
            ensure!(manifest.body == image.manifest, "v{index}: {manifest}");
            for (digest, _) in &image.blobs {
                ensure!(client.pull_blob(REPO, digest).await?.digest == *digest, "{digest}");
            }
        }
        ensure!(client.manifest(REPO, "missing").await?.status == 404, "a tag that is not there");
    }
    let token = std::fs::read_to_string(&cluster.admin.token_file)?;
    let gone = nodes[0].request(Method::DELETE, &format!("/v2/{REPO}/manifests/v0"));
    let gone = nodes[0].send("DELETE tag", gone.bearer_auth(token.trim())).await?;
    ensure!(gone.status == 202, "the delete: {gone}");
    Ok(())
}

/// The leader goes for longer than the grace, while others are pushed to, and comes back.
async fn lose_the_leader(cluster: &mut Cluster, watch: &Watch) -> Result<()> {
    let leader = cluster.leader(LIMIT).await?;
    cluster.nodes[leader].kill();
    watch.until("trow_members", "\"down\"", |down| down == 1.0).await?;
    let left = cluster.clients();
    let until = std::time::Instant::now() + LIMIT;
    for index in 0..4 {
        let image = Image::random(&[1_000_000]);
        // While a new leader is elected an answer may be 503.
        while image.push(&left[index % 2], REPO, &format!("w{index}")).await?.status != 201 {
            ensure!(std::time::Instant::now() < until, "no push without the leader");
        }
    }
    for index in 0..8 {
        let answer = left[index % 2].put_manifest(REPO, &format!("x{index}"), INDEX, padded()).await?;
        ensure!(answer.status == 201, "a large manifest: {answer}");
    }
    for name in ["trow_away_blobs", "trow_repair_queue_blobs"] {
        watch.once(name).await?;
    }
    // What it lacks is in no log any more, so that it is sent the state.
    away::until_cut(cluster, leader).await?;
    watch.until("trow_raft_purged_index", "", |index| index > 0.0).await?;
    cluster.nodes[leader].start()?;
    cluster.healthy(LIMIT).await?;
    watch.until("trow_raft_installs_total", "", |installs| installs > 0.0).await?;
    cluster.settled(LIMIT).await
}

/// An index of more than 500 KiB, whose like there is not.
fn padded() -> Bytes {
    let padding = Content::random(64).digest().to_string().repeat(8000);
    let annotations = serde_json::json!({ "padding": padding });
    serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": annotations })
        .to_string()
        .into()
}

/// A file goes bad, is noticed by a reader, and healed.
async fn one_is_damaged(cluster: &Cluster, nodes: &[Client], image: &Image, watch: &Watch) -> Result<()> {
    let digest = &image.blobs[2].0;
    let held = |node: &Node| node.held().contains(&digest.hex());
    let at = cluster.nodes.iter().position(held).context("nobody holds the blob")?;
    damage(&file(&cluster.nodes[at], digest), Damage::Flip(700_000))?;
    // The body may break off, or go on from another node.
    drop(nodes[at].pull_blob(REPO, digest).await);
    watch.until("trow_damaged_blobs_total", "", |damaged| damaged > 0.0).await?;
    cluster.settled(LIMIT).await
}

/// Nobody answers but one; then all come back without one blob.
async fn all_is_lost(cluster: &mut Cluster, digest: &Digest, watch: &Watch) -> Result<()> {
    cluster.nodes[0].kill();
    cluster.nodes[1].kill();
    watch.until("trow_raft_quorum", "", |quorum| quorum == 0.0).await?;
    let last = cluster.nodes[2].client();
    ensure!(last.manifest(REPO, "v1").await?.stale(), "a tag without a quorum");
    let refused = last.put_manifest(REPO, "v9", MANIFEST, Image::random(&[]).manifest).await?;
    ensure!(refused.status >= 400, "a write without a quorum: {refused}");
    cluster.nodes[2].kill();
    for node in &cluster.nodes {
        let file = file(node, digest);
        ensure!(!file.exists() || std::fs::remove_file(&file).is_ok(), "{}", file.display());
    }
    cluster.start_all().await?;
    watch.until("trow_lost_blobs", "", |lost| lost > 0.0).await
}

/// A node with TLS for its clients is given another certificate.
async fn certificate_changes(watch: &mut Watch) -> Result<Cluster> {
    let mut cluster = Cluster::prepare(Plan::of(1)).await?;
    let [cert, key] = ["server.pem", "server.key"].map(|name| cluster.root().join(name));
    write_certificate(&cert, &key, 2040)?;
    let text = |path: &PathBuf| path.display().to_string();
    let flags = ["--tls-cert".to_owned(), text(&cert), "--tls-key".to_owned(), text(&key)];
    cluster.nodes[0].command.extend(flags);
    watch.nodes_of(&cluster);
    cluster.nodes[0].start()?;
    cluster.nodes[0].ready(LIMIT).await?;
    let name = "trow_tls_certificate_expiry_timestamp_seconds";
    watch.until(name, "", |expires| expires == 2_208_988_800.0).await?;
    write_certificate(&cert, &key, 2041)?;
    watch.until(name, "", |expires| expires == 2_240_611_200.0).await?;
    Ok(cluster)
}

/// One that counts until the beginning of `year`.
fn write_certificate(cert: &PathBuf, key: &PathBuf, year: i32) -> Result<()> {
    let pair = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    std::fs::write(cert, params.self_signed(&pair)?.pem())?;
    std::fs::write(key, pair.serialize_pem())?;
    Ok(())
}

fn file(node: &Node, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    node.data_dir.join("blobs/sha256").join(&hex[..2]).join(hex)
}
