//! `trow bench` against three nodes: every row is there, nothing fails, and what it counts holds.
//!
//! Times are not judged here, since the machine is shared with everything else; counts are.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::registry::Registry;
use chaos_tests::report::scenario;
use chaos_tests::require;
use serde_json::Value;

const CASES: [&str; 8] = [
    "get-manifest-by-tag",
    "get-manifest-by-digest",
    "head-manifest-by-tag",
    "get-blob-4kib",
    "get-blob-256kib",
    "get-blob-1mib",
    "put-manifest",
    "push-blob-4kib",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_is_measured_and_64_concurrent_puts_share_fsyncs() {
    scenario("bench run", Duration::from_secs(180), run()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_filled_is_read_at_random_and_a_fill_is_resumed() {
    scenario("bench fill", Duration::from_secs(180), fill()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_registry_takes_turns() {
    if require::tools(&["docker-registry"]) {
        scenario("bench beside a peer", Duration::from_secs(180), beside_a_peer()).await;
    }
}

async fn run() -> Result<()> {
    let cluster = Cluster::start(Plan::of(3)).await?;
    let token = cluster.admin.token_file.display().to_string();
    let limits = ["--round", "1s", "--rounds", "1", "--user", "admin", "--password-file", &token];
    let report = bench(&cluster, "run", &limits).await?;
    let rows = rows(&report)?;
    ensure!(rows.iter().map(|row| row["case"].as_str()).eq(CASES.map(Some)), "{report}");
    for row in rows {
        sound(&row["server"]).with_context(|| row.to_string())?;
        ensure!(row["peer"].is_null() && row["ratio"].is_null(), "{row}");
    }
    let put = rows.iter().find(|row| row["case"] == "put-manifest").context("no row of puts")?;
    let nodes = put["nodes"].as_array().context("no figures of nodes")?;
    ensure!(nodes.len() == 3, "{put}");
    for node in nodes {
        let fsyncs = node["fsyncs_per_operation"].as_f64().context("no fsyncs")?;
        ensure!(fsyncs > 0.0 && fsyncs < 1.0, "64 concurrent puts take {fsyncs} fsyncs each: {put}");
        ensure!(node["apply_us_per_entry"].as_f64().is_some_and(|us| us > 0.0), "{put}");
    }
    // All that it pushed is gone again.
    ensure!(report["left"].is_null(), "{}", report["left"]);
    let repository = report["repository"].as_str().context("no repository")?;
    let gone = cluster.nodes[1].client().tags(repository).await?;
    ensure!(gone.status == 404, "{repository} is still there: {gone}");
    cluster.done();
    Ok(())
}

async fn fill() -> Result<()> {
    let cluster = Cluster::start(Plan::of(3)).await?;
    let many = ["--manifests", "500", "--repositories", "2", "--prefix", "many/of"];
    let missing = trow(&cluster, &command(&cluster, "read", &many)).await?;
    ensure!(missing.0 == 1 && missing.2.contains("trow bench fill"), "{missing:?}");

    let some = ["--manifests", "300", "--repositories", "2", "--prefix", "many/of"];
    let filled = bench(&cluster, "fill", &some).await?;
    ensure!(filled["manifests"] == 300 && filled["figures"]["operations"] == 300, "{filled}");
    let again = bench(&cluster, "fill", &[&some[..], &["--resume"]].concat()).await?;
    ensure!(again["from"] == 300 && again["figures"]["operations"] == 0, "{again}");
    let more = bench(&cluster, "fill", &[&many[..], &["--resume"]].concat()).await?;
    ensure!(more["manifests"] == 500, "{more}");

    let report = bench(&cluster, "read", &[&many[..], &["--round", "1s", "--rounds", "1"]].concat()).await?;
    let rows = rows(&report)?;
    ensure!(rows.len() == 3, "{report}");
    for row in rows {
        sound(&row["server"]).with_context(|| row.to_string())?;
    }
    let answer = cluster.nodes[2].client().tags("many/of/r00001").await?;
    let tags: Value = serde_json::from_slice(&answer.body)?;
    ensure!(tags["tags"].as_array().is_some_and(|tags| tags.len() == 250), "{answer}: {tags}");
    cluster.done();
    Ok(())
}

async fn beside_a_peer() -> Result<()> {
    let cluster = Cluster::start(Plan::of(1)).await?;
    let peer = Registry::start(&cluster.root().join("peer")).await?;
    let url = format!("http://{}", peer.address);
    let few = ["--peer", &url, "--only", "get-blob-4kib", "--only", "put-manifest", "--rounds", "2"];
    let report = bench(&cluster, "run", &[&few[..], &["--round", "500ms"]].concat()).await?;
    let rows = rows(&report)?;
    ensure!(rows.len() == 2 && report["peer"] == url.as_str(), "{report}");
    for row in rows {
        sound(&row["server"]).with_context(|| row.to_string())?;
        sound(&row["peer"]).with_context(|| row.to_string())?;
        let [min, median, max] =
            ["min", "median", "max"].map(|key| row["ratio"][key].as_f64().unwrap_or(0.0));
        ensure!(0.0 < min && min <= median && median <= max, "{row}");
    }
    // Neither registry was told who may delete, so what is left is named.
    ensure!(report["left"].as_str().is_some_and(|left| left.contains("401")), "{}", report["left"]);

    drop(peer);
    let gone = trow(&cluster, &command(&cluster, "run", &few)).await?;
    ensure!(gone.0 == 3 && gone.2.contains(&url), "{gone:?}");
    let wrong =
        trow(&cluster, &["bench", "run", "--server", "https://127.0.0.1:1"].map(str::to_owned)).await?;
    ensure!(wrong.0 == 2, "{wrong:?}");
    cluster.done();
    Ok(())
}

/// `trow bench WHAT` through all nodes; its report.
async fn bench(cluster: &Cluster, what: &str, words: &[&str]) -> Result<Value> {
    let (code, out, err) = trow(cluster, &command(cluster, what, words)).await?;
    ensure!(code == 0, "trow bench {what} exits with {code}: {out}{err}");
    let report: Value = serde_json::from_str(&out).with_context(|| format!("no JSON: {out}"))?;
    eprintln!("{report}");
    Ok(report)
}

async fn trow(cluster: &Cluster, words: &[String]) -> Result<(i32, String, String)> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    cluster.admin.run(&cluster.nodes[0].client, &words).await
}

fn command(cluster: &Cluster, what: &str, words: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = ["bench", what, "--output", "json"].map(str::to_owned).to_vec();
    for node in &cluster.nodes {
        let (server, ops) = (format!("http://{}", node.client), format!("http://{}", node.ops));
        all.extend(["--server".to_owned(), server, "--ops".to_owned(), ops]);
    }
    all.extend(words.iter().map(|word| (*word).to_owned()));
    all
}

fn rows(report: &Value) -> Result<&Vec<Value>> {
    ensure!(report["errors"] == 0, "{}", report["first_error"]);
    report["rows"].as_array().context("no rows")
}

/// Figures of operations that were done, none of which failed.
fn sound(figures: &Value) -> Result<()> {
    let number = |key: &str| figures[key].as_f64().with_context(|| format!("no {key}"));
    ensure!(number("errors")? == 0.0 && number("operations")? > 0.0 && number("rate")? > 0.0, "{figures}");
    let (p50, p99) = (number("p50_ms")?, number("p99_ms")?);
    ensure!(0.0 < p50 && p50 <= p99, "p50 {p50}, p99 {p99}");
    Ok(())
}
