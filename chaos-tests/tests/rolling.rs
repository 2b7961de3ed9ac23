//! Nodes that are told to end, one after the other, under load: each ends with 0 within 30 s, no read
//! fails, and writes go on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::check::Expect;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::load::Load;
use chaos_tests::report::{judge, scenario};
use chaos_tests::{audit, fault};
use rustix::process::Signal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_nothing_and_each_node_ends_with_0() {
    scenario("rolling", Duration::from_secs(240), run()).await;
}

async fn run() -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(3)).await?;
    let nodes = cluster.clients();
    let load = Load::start(6, &nodes);
    for index in 0..3 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let node = &mut cluster.nodes[index];
        load.shared.history.fault(&node.name, "kill");
        let began = Instant::now();
        node.signal(Signal::TERM);
        let status = tokio::task::block_in_place(|| node.wait(Duration::from_secs(30)))?;
        ensure!(status.is_some_and(|status| status.success()), "{} ended with {status:?}", node.name);
        eprintln!("{} ended after {:.1?}", node.name, began.elapsed());
        fault::restart(node, &load.shared.history)?;
        fault::ready(node, &load.shared.history, Duration::from_secs(30)).await?;
        cluster.healthy(Duration::from_secs(30)).await.context("after the restart")?;
    }
    let shared = load.stop().await;
    cluster.settled(Duration::from_secs(60)).await?;
    judge("rolling", &shared.history, Expect { no_failed_reads: true, faults: 9, acknowledged: 5 })?;
    audit::everything(&nodes, &shared.acked()).await?;
    audit::tags(&nodes, &shared.history.events()).await?;
    cluster.done();
    Ok(())
}
