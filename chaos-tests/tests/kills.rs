//! kill -9 of any one node, the leader included, loses nothing that was acknowledged.
//!
//! Three kills unless `TROW_KILLS` says how many; every other one is the leader's.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::check::Expect;
use chaos_tests::client::Client;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::image::Image;
use chaos_tests::load::Load;
use chaos_tests::report::{judge, median_and_worst, scenario};
use chaos_tests::{audit, fault};
use futures::future::try_join_all;

const CLIENTS: usize = 8;
/// From a kill of the leader to the first write through every other node, in the middle of all kills.
const WRITES_BACK: Duration = Duration::from_secs(3);
/// The same, whatever else the machine does.
const WRITES_BACK_MAX: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_in_a_stream_of_pushes_and_pulls_lose_nothing_acknowledged() {
    let kills: u64 = std::env::var("TROW_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    scenario("kills", Duration::from_secs(180 + 30 * kills), run(kills)).await;
}

async fn run(kills: u64) -> Result<()> {
    let mut cluster = Cluster::dev(Plan::of(3)).await?;
    let nodes = cluster.clients();
    let load = Load::start(CLIENTS, &nodes);
    let mut waits = Vec::new();
    for turn in 0..kills {
        work_for_a_while(&load).await?;
        let leader = cluster.leader(Duration::from_secs(30)).await?;
        let victim = if turn % 2 == 0 { leader } else { (leader + 1 + (turn as usize / 2) % 2) % 3 };
        fault::kill(&mut cluster.nodes[victim], &load.shared.history);
        let killed = Instant::now();
        let others = nodes.iter().filter(|node| node.node != cluster.nodes[victim].name);
        let back = try_join_all(others.map(|node| first_write(node, killed))).await;
        let back = back.with_context(|| format!("after kill {turn} of {}", cluster.nodes[victim].name))?;
        if victim == leader {
            waits.extend(back.iter().max());
        }
        let node = &mut cluster.nodes[victim];
        fault::restart(node, &load.shared.history)?;
        fault::ready(node, &load.shared.history, Duration::from_secs(60)).await?;
        cluster.healthy(Duration::from_secs(60)).await.context("the killed node catches up")?;
    }
    work_for_a_while(&load).await?;
    let shared = load.stop().await;
    cluster.settled(Duration::from_secs(120)).await?;
    if let Some((median, worst)) = median_and_worst(waits) {
        eprintln!("first write after killing the leader: median {median:.2?}, worst {worst:.2?}");
        ensure!(median <= WRITES_BACK, "writes are back after {median:.2?}");
    }
    let expect = Expect { no_failed_reads: true, faults: 3 * kills as usize, acknowledged: 10 };
    judge("kills", &shared.history, expect)?;
    let acked = shared.acked();
    audit::everything(&nodes, &acked).await?;
    audit::tags(&nodes, &shared.history.events()).await?;
    eprintln!("{} acknowledged blobs and manifests read through every node", acked.len());
    audit::same_state(&cluster.admin, &nodes).await?;
    cluster.done();
    Ok(())
}

/// Lets the clients get a few things acknowledged, so that no kill meets an idle cluster.
async fn work_for_a_while(load: &Load) -> Result<()> {
    let (before, until) = (load.shared.acked().len(), Instant::now() + Duration::from_secs(60));
    while load.shared.acked().len() < before + 3 * CLIENTS {
        ensure!(Instant::now() < until, "8 clients got less than {} pushes through in a minute", 3 * CLIENTS);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// How long after `killed` an image pushed through `node` was acknowledged.
async fn first_write(node: &Client, killed: Instant) -> Result<Duration> {
    let image = Image::random(&[1000]);
    loop {
        let answer =
            image.push(&node.clone().within(Duration::from_secs(6)), "kills/probe", &node.node).await;
        let waited = killed.elapsed();
        if answer.as_ref().is_ok_and(|answer| answer.status == 201) {
            return Ok(waited);
        }
        ensure!(waited <= WRITES_BACK_MAX, "no write through {} in {waited:.2?}: {answer:?}", node.node);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
