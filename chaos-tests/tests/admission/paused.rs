//! A node that stands still while the policy changes: what it is asked after `trow policy set` returned on another
//! node it decides by the new policy once it goes on, whether it led or not. One that finds no quorum for seconds after
//! that may go by what it has, and says so in its answer; most must find it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::report::scenario;
use chaos_tests::webhook::{Verdict, Webhook};

use super::site::{IMAGES, alternating, reviewed, set_soon, webhooks};

/// The leader and a follower by turns.
const PAUSES: usize = 8;
/// Reviews that wait for the node: some on connections that it knows, the rest on new ones.
const WAITING: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stood_still_decides_by_no_policy_of_before() {
    scenario("admission after a pause", Duration::from_secs(300), run()).await;
}

async fn run() -> Result<()> {
    let mut cluster = Cluster::dev(Plan::of(3)).await?;
    let webhooks = webhooks(&cluster).await?;
    set_soon(&cluster, 0, &alternating(0)).await?;
    let mut unconfirmed = 0;
    for pause in 0..PAUSES {
        cluster.healthy(Duration::from_secs(90)).await?;
        let leader = cluster.leader(Duration::from_secs(60)).await?;
        let victim = if pause % 2 == 0 { leader } else { (leader + 1 + pause / 2 % 2) % 3 };
        // It knows the policy before, and that a quorum confirms it.
        decides_by(&webhooks[victim], pause).await?;
        cluster.nodes[victim].pause();
        // With the leader away that takes an election.
        set_soon(&cluster, (victim + 1) % 3, &alternating(pause + 1)).await?;
        let waiting: Vec<_> = (0..WAITING).map(|_| asked(webhooks[victim].clone(), pause + 1)).collect();
        // On their way: what a node that stands still gets, the kernel takes for it.
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.nodes[victim].resume();
        for review in waiting {
            let confirmed = review.await?.with_context(|| format!("n{} after pause {pause}", victim + 1))?;
            unconfirmed += usize::from(!confirmed);
        }
        decides_by(&webhooks[victim], pause + 1).await?;
    }
    eprintln!("{unconfirmed} of {} answers after a pause were not confirmed, and said so", PAUSES * WAITING);
    ensure!(unconfirmed <= PAUSES * WAITING / 2, "{unconfirmed} answers were not confirmed by a quorum");
    cluster.done();
    Ok(())
}

/// Sends a review of the image that the policy after so many changes denies, and looks at the verdict, unless it is
/// told that no quorum confirmed it; whether one did.
fn asked(webhook: Webhook, changes: usize) -> tokio::task::JoinHandle<Result<bool>> {
    tokio::spawn(async move {
        let image = IMAGES[(changes + 1) % 2];
        match webhook.ask(&reviewed(image)?).await? {
            (_, true) => Ok(false),
            (Verdict::Denied(why), false) if why.contains("denied by default") => Ok(true),
            (verdict, unconfirmed) => bail!("{image}: {verdict:?}, unconfirmed: {unconfirmed}"),
        }
    })
}

/// What a quorum confirms, once it does.
async fn decides_by(webhook: &Webhook, changes: usize) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(60);
    while !asked(webhook.clone(), changes).await?? {
        ensure!(Instant::now() < until, "no quorum confirms what it decides");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (verdict, unconfirmed) = webhook.ask(&reviewed(IMAGES[changes % 2])?).await?;
    ensure!(verdict == Verdict::Allowed || unconfirmed, "{verdict:?} of what policy {changes} allows");
    Ok(())
}
