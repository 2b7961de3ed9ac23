//! A leader that stands still and wakes up again is not believed: tags stay linearizable.

use std::time::Duration;

use anyhow::Result;
use chaos_tests::check::Expect;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::load::Load;
use chaos_tests::report::{judge, scenario};
use chaos_tests::{audit, fault};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_leader_that_wakes_up_serves_no_old_tag() {
    scenario("pauses", Duration::from_secs(240), run()).await;
}

async fn run() -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(3)).await?;
    let nodes = cluster.clients();
    let load = Load::start(6, &nodes);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let leader = cluster.leader(Duration::from_secs(10)).await?;
        fault::pause(&cluster.nodes[leader], &load.shared.history);
        // Longer than twice the upper election bound: the others have moved on when it wakes.
        tokio::time::sleep(Duration::from_millis(3500)).await;
        fault::resume(&cluster.nodes[leader], &load.shared.history);
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let shared = load.stop().await;
    cluster.settled(Duration::from_secs(90)).await?;
    judge("pauses", &shared.history, Expect { no_failed_reads: true, faults: 4, acknowledged: 5 })?;
    audit::everything(&nodes, &shared.acked()).await?;
    audit::tags(&nodes, &shared.history.events()).await?;
    audit::same_state(&cluster.admin, &nodes).await?;
    cluster.done();
    Ok(())
}
