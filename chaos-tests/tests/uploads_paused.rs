//! The home or the mirror of an upload stands still: it is given up two seconds after it was last heard, while
//! the request in hand waits. When the home wakes up it can acknowledge nothing any more.
//!
//! With the feature `planted` a program whose homes do acknowledge meets the same, and is caught.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::client::Client;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::content::Content;
use chaos_tests::report::scenario;
use chaos_tests::upload::{Gate, Upload};
use chaos_tests::{audit, metrics};
use reqwest::Method;

const REPO: &str = "paused/blobs";
const LIMIT: Duration = Duration::from_secs(180);
const CHUNK: u64 = 256 << 10;
/// Two seconds of silence, then what the request itself takes, on a machine that has other things to do.
const TAKEN_OVER: Duration = Duration::from_millis(3500);

/// A cluster, and who is what: home, mirror, the third.
struct Stage {
    cluster: Cluster,
    nodes: Vec<Client>,
    home: usize,
    mirror: usize,
    third: usize,
}

impl Stage {
    async fn set(plan: Plan) -> Result<Stage> {
        let mut cluster = Cluster::start(plan).await?;
        // What stands still is no leader, so that only the upload is concerned.
        let third = cluster.leader(Duration::from_secs(20)).await?;
        let nodes = cluster.clients();
        Ok(Stage { cluster, nodes, home: (third + 1) % 3, mirror: (third + 2) % 3, third })
    }

    /// An upload of four chunks with the first one acknowledged.
    async fn begin(&self) -> Result<Upload> {
        let (home, mirror) = (&self.nodes[self.home], &self.cluster.nodes[self.mirror]);
        let mut upload =
            Upload::begin_mirrored(home, mirror, REPO, Content::random(4 * CHUNK), CHUNK).await?;
        upload.push(&[&self.nodes[self.third]], CHUNK).await?;
        Ok(upload)
    }

    /// The next chunk through the third node, which must be acknowledged in time.
    async fn patch_in_time(&self, what: &str, upload: &mut Upload) -> Result<()> {
        let began = Instant::now();
        let answer = upload.patch(&self.nodes[self.third], None).await??;
        eprintln!("{what} stands still: a PATCH takes {:.2} s", began.elapsed().as_secs_f64());
        ensure!(answer.status == 202, "{what} stands still, PATCH: {answer}");
        ensure!(began.elapsed() < TAKEN_OVER, "{what} stands still, PATCH took {:?}", began.elapsed());
        Ok(())
    }

    /// Ends the upload and reads it everywhere.
    async fn finish(&self, upload: &mut Upload) -> Result<()> {
        let all: Vec<&Client> = self.nodes.iter().collect();
        upload.push(&all, 3 * CHUNK).await?;
        upload.finish(&all, true).await?;
        for node in &self.nodes {
            audit::blob(node, REPO, &upload.digest).await?;
        }
        Ok(())
    }
}

/// One request with the `Location` of before the takeover.
async fn late(node: &Client, old: &Upload, method: &str) -> Result<()> {
    let request = match method {
        "GET" => node.request(Method::GET, &old.location),
        "DELETE" => node.request(Method::DELETE, &old.location),
        "PATCH of nothing" => node.request(Method::PATCH, &old.location).header("content-length", "0"),
        _ => {
            let range = format!("{}-{}", old.acked, old.next_end() - 1);
            let body: Vec<u8> = old.content.part(old.acked..old.next_end()).flatten().collect();
            node.request(Method::PATCH, &old.location).header("content-range", range).body(body)
        }
    };
    let answer = node.send(method, request).await?;
    let code = answer.code();
    let refused = match answer.status {
        404 => code.as_deref() == Some("BLOB_UPLOAD_UNKNOWN"),
        416 => true,
        _ => false,
    };
    ensure!(refused, "{method} with an old Location through {}: {answer}", node.node);
    Ok(())
}

async fn a_home_wakes_up(plan: Plan) -> Result<()> {
    let stage = Stage::set(plan).await?;
    let methods = ["PATCH", "GET", "DELETE", "PATCH of nothing"];
    let mut uploads = Vec::new();
    for _ in methods {
        uploads.push(stage.begin().await?);
    }
    let old = uploads.clone();
    stage.cluster.nodes[stage.home].pause();
    for upload in &mut uploads {
        stage.patch_in_time("the home", upload).await?;
    }
    stage.cluster.nodes[stage.home].resume();
    // Each is the first to ask a home that does not know yet, then come the others.
    for (turn, old) in old.iter().enumerate() {
        for step in 0..methods.len() {
            late(&stage.nodes[stage.home], old, methods[(turn + step) % methods.len()]).await?;
        }
        for node in &stage.nodes {
            late(node, old, "PATCH").await?;
            late(node, old, "GET").await?;
        }
    }
    for (upload, old) in uploads.iter_mut().zip(&old) {
        stage.finish(upload).await?;
        // The last request is good with any Location, wherever the rest of it went.
        let again = old.put(&stage.nodes[stage.home], false).await?;
        ensure!(again.status == 201, "the last request with the first Location: {again}");
    }
    stage.cluster.done();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_wakes_after_its_takeover_acknowledges_nothing() {
    scenario("upload home paused", LIMIT, a_home_wakes_up(Plan::of(3))).await;
}

/// A home that wakes is fenced in the last request too: what it lacks does not make a digest wrong.
async fn a_home_sleeps_through_the_last_request() -> Result<()> {
    let stage = Stage::set(Plan::of(3)).await?;
    let mut upload = stage.begin().await?;
    upload.push(&[&stage.nodes[stage.third]], 3 * CHUNK).await?;
    stage.cluster.nodes[stage.home].pause();
    let began = Instant::now();
    let answer = upload.put(&stage.nodes[stage.third], true).await?;
    ensure!(answer.status == 201, "PUT while the home stands still: {answer}");
    ensure!(began.elapsed() < TAKEN_OVER, "PUT took {:?}", began.elapsed());
    stage.cluster.nodes[stage.home].resume();
    for with_rest in [false, true] {
        for node in [stage.home, stage.mirror, stage.third] {
            let again = upload.put(&stage.nodes[node], with_rest).await?;
            ensure!(again.status == 201, "again through {}: {again}", stage.nodes[node].node);
        }
    }
    for node in &stage.nodes {
        audit::blob(node, REPO, &upload.digest).await?;
    }
    stage.cluster.done();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_request_is_repeated_through_a_home_that_slept_through_it() {
    scenario("upload home paused in the PUT", LIMIT, a_home_sleeps_through_the_last_request()).await;
}

async fn a_mirror_stands_still() -> Result<()> {
    let stage = Stage::set(Plan::of(3)).await?;
    let mut upload = stage.begin().await?;
    stage.cluster.nodes[stage.mirror].pause();
    stage.patch_in_time("the mirror", &mut upload).await?;
    // Its bytes are on a third node by now, so that the home may go.
    stage.cluster.nodes[stage.home].pause();
    stage.cluster.nodes[stage.mirror].resume();
    upload.ask(&[&stage.nodes[stage.third]]).await.context("the home stands still as well")?;
    stage.cluster.nodes[stage.home].resume();
    stage.finish(&mut upload).await?;
    stage.cluster.done();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_stands_still_is_replaced_while_the_request_waits() {
    scenario("upload mirror paused", LIMIT, a_mirror_stands_still()).await;
}

async fn a_home_stands_still_in_mid_patch() -> Result<()> {
    let stage = Stage::set(Plan::of(3)).await?;
    let mut upload = stage.begin().await?;
    let (gate, third, home) = (Gate::closed(), &stage.nodes[stage.third], &stage.cluster.nodes[stage.home]);
    let half = upload.middle();
    let strike = async {
        gate.reached().await;
        let until = Instant::now() + Duration::from_secs(20);
        while metrics::read(home, "trow_upload_bytes", &[]).await? < half as f64 {
            ensure!(Instant::now() < until, "the first half does not arrive at the home");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        home.pause();
        gate.open();
        Ok(Instant::now())
    };
    let (answer, stopped) = tokio::join!(upload.patch(third, Some(&gate)), strike);
    let (answer, took) = (answer??, stopped?.elapsed());
    eprintln!("the home stands still in mid-PATCH: {} after {:.2} s", answer.status, took.as_secs_f64());
    // What only the home has cannot be had from anybody else: the client sends it again.
    ensure!(answer.status == 503, "PATCH: {answer}");
    ensure!(took < TAKEN_OVER, "the PATCH was answered after {took:?}");
    upload.ask(&[third]).await?;
    stage.cluster.nodes[stage.home].resume();
    stage.finish(&mut upload).await?;
    stage.cluster.done();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_stands_still_in_mid_patch_is_given_up_in_time() {
    scenario("upload home paused in mid-PATCH", LIMIT, a_home_stands_still_in_mid_patch()).await;
}

#[cfg(feature = "planted")]
mod planted {
    use super::*;
    use chaos_tests::binary;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_home_that_acknowledges_after_its_takeover_is_caught() {
        let run = async {
            let plan = Plan::of(3).program(binary::planted()).env("TROW_PLANTED", "h2-waking-home");
            match a_home_wakes_up(plan).await {
                Ok(()) => anyhow::bail!("h2-waking-home went unnoticed"),
                Err(violation) => {
                    eprintln!("h2-waking-home is caught: {violation:#}");
                    ensure!(violation.to_string().contains("old Location"), "by something else");
                    Ok(())
                }
            }
        };
        scenario("h2-waking-home", LIMIT, run).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_same_program_without_a_variant_is_not() {
        let plan = Plan::of(3).program(binary::planted());
        scenario("clean twin of h2-waking-home", LIMIT, a_home_wakes_up(plan)).await;
    }
}
