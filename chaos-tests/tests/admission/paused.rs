//! A node that stands still while the policy changes: what it is asked after `trow policy set` returned on another
//! node it decides by the new policy once it goes on, whether it led or not.

use std::time::Duration;

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
            review.await?.with_context(|| format!("n{} after pause {pause}", victim + 1))?;
        }
        decides_by(&webhooks[victim], pause + 1).await?;
    }
    cluster.done();
    Ok(())
}

/// Sends a review of the image that the policy after so many changes denies, and looks at the verdict.
fn asked(webhook: Webhook, changes: usize) -> tokio::task::JoinHandle<Result<()>> {
    tokio::spawn(async move {
        let image = IMAGES[(changes + 1) % 2];
        match webhook.ask(&reviewed(image)?).await? {
            (Verdict::Denied(why), _) if why.contains("denied by default") => Ok(()),
            (verdict, unconfirmed) => bail!("{image}: {verdict:?}, unconfirmed: {unconfirmed}"),
        }
    })
}

async fn decides_by(webhook: &Webhook, changes: usize) -> Result<()> {
    let verdict = webhook.validate(&reviewed(IMAGES[changes % 2])?).await?;
    ensure!(verdict == Verdict::Allowed, "{verdict:?} of what policy {changes} allows");
    asked(webhook.clone(), changes).await?
}
