//! Planned stops are silent: every node is told to end and started again, one after the other, the next as
//! soon as `/readyz` of the last is 200, while 16 clients push and pull.
//!
//! A client tries again only where its connection is refused. It sees no 5xx, no short body, no broken
//! connection, no stale answer; each node ends with 0 within 30 s. In a full run (`TROW_ROLLING_OPS=10000`)
//! all nodes go round at least twice, until there were so many operations; otherwise once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::check::Expect;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::mixed::{Mixed, Tally};
use chaos_tests::report::{judge, scenario};
use chaos_tests::{audit, fault};
use rustix::process::Signal;

/// How many clients.
const CLIENTS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planned_stops_of_three_nodes_are_silent() {
    scenario("rolling-3", Duration::from_secs(900), run(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planned_stops_of_five_nodes_are_silent() {
    scenario("rolling-5", Duration::from_secs(900), run(5)).await;
}

/// How much is asked of a run.
struct Scale {
    rounds: usize,
    operations: u64,
    /// Blobs of 64 MiB that are pushed; more are pulled.
    big: usize,
}

fn scale() -> Scale {
    let asked: Option<u64> = std::env::var("TROW_ROLLING_OPS").ok().and_then(|text| text.parse().ok());
    match asked {
        Some(operations) => Scale { rounds: 2, operations, big: 24 },
        None => Scale { rounds: 1, operations: 300, big: 4 },
    }
}

async fn run(nodes: usize) -> Result<()> {
    let name = format!("rolling-{nodes}");
    let scale = scale();
    let mut cluster = Cluster::start(Plan::of(nodes)).await?;
    let load = Mixed::start(CLIENTS, &cluster.nodes, scale.big);
    let shared = load.shared.clone();
    // There is something to pull, and every client is at work.
    while shared.done() < 100 {
        ensure!(shared.elapsed() < Duration::from_secs(60), "no load after a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (mut rounds, mut faults) = (0, 0);
    while shared.failures() == 0 && (rounds < scale.rounds || shared.done() < scale.operations) {
        for node in &mut cluster.nodes {
            let (at, began) = (shared.elapsed(), Instant::now());
            shared.history.fault(&node.name, "stop");
            node.signal(Signal::TERM);
            let status = tokio::task::block_in_place(|| node.wait(Duration::from_secs(30)))?;
            ensure!(status.is_some_and(|status| status.success()), "{} ended with {status:?}", node.name);
            let (stopped, began) = (began.elapsed(), Instant::now());
            fault::restart(node, &shared.history)?;
            fault::ready(node, &shared.history, Duration::from_secs(30)).await?;
            faults += 3;
            let ready = began.elapsed();
            eprintln!("{name}: at {at:.1?} {} stopped in {stopped:.2?}, was ready in {ready:.2?}", node.name);
        }
        rounds += 1;
    }
    let (shared, tally) = load.stop().await;
    report(&name, rounds, &tally, shared.elapsed());
    ensure!(tally.failures.is_empty(), "{} things that no client may see", tally.failures.len());
    // On a machine that is slow enough, two seconds may pass before a read is confirmed.
    ensure!(tally.stale * 20 <= tally.done, "{} answers said that they are stale", tally.stale);
    ensure!(tally.refused > 0, "no client met a node that was stopped");
    ensure!(tally.big > 0, "no blob of 64 MiB");
    cluster.healthy(Duration::from_secs(60)).await.context("after the last restart")?;
    cluster.settled(Duration::from_secs(120)).await?;
    judge(&name, &shared.history, Expect { no_failed_reads: true, faults, acknowledged: 5 })?;
    let nodes = cluster.clients();
    audit::everything(&nodes, &shared.acked()).await?;
    audit::tags(&nodes, &shared.history.events()).await?;
    cluster.done();
    Ok(())
}

fn report(name: &str, rounds: usize, tally: &Tally, took: Duration) {
    let count = |which: fn(&chaos_tests::mixed::Failure) -> bool| {
        tally.failures.iter().filter(|failure| which(failure)).count()
    };
    eprintln!(
        "{name}: {rounds} rounds in {took:.0?}: {} operations, {} of them with 64 MiB; {} answers of 5xx, {} short \
         bodies, {} failures in all; {} refused connections, {} kept ones found closed, {} crossed; \
         {} stale answers",
        tally.done,
        tally.big,
        count(|failure| failure.is_5xx),
        count(|failure| failure.is_short),
        tally.failures.len(),
        tally.refused,
        tally.replaced,
        tally.crossed,
        tally.stale,
    );
    if let Some((longest, at, what)) = tally.longest {
        eprintln!("{name}: the longest operation was '{what}' at {at:.1?}: {longest:.2?}");
    }
    for failure in tally.failures.iter().take(40) {
        eprintln!("{name}: at {:.1?}: {}: {}", failure.at, failure.what, failure.saw);
    }
}
