//! What rules require of our own images, while nodes are dead or lack a copy: `exists` and `resolves` go by what was
//! agreed, whoever leads; `replicated` asks the nodes that should hold an image, and takes what they say.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::image::Image;
use chaos_tests::report::scenario;
use chaos_tests::webhook::{Verdict, Webhook};

use super::site::{reviewed, set, webhooks};

const OURS: &str = "registry.trow.test";
const POLICY: &str = "version: 1\ndefault: deny\nallow:\n  - image: registry.trow.test/named/**\n    require: [exists, \
                      resolves]\n  - image: registry.trow.test/kept/**\n    require: [replicated]\n  - image: \
                      quay.io/tools/**\n  - image: ghcr.io/acme/**\n";
/// Until nodes that were killed or started have noticed each other.
const SOON: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rules_require_is_known_while_nodes_are_dead_and_after_repair() {
    scenario("admission and copies", Duration::from_secs(400), run()).await;
}

async fn run() -> Result<()> {
    let config = format!("[server]\nhostnames = [\"{OURS}\"]\n");
    let mut cluster = Cluster::dev(Plan::of(3).config(&config)).await?;
    let webhooks = webhooks(&cluster).await?;
    set(&cluster, 0, POLICY).await?;
    push(&mut cluster, "named/app").await?;
    let image = push(&mut cluster, "kept/app").await?;
    cluster.settled(SOON).await?;
    for webhook in &webhooks {
        allowed(webhook, "named/app:v1").await?;
        allowed(webhook, "kept/app:v1").await?;
    }

    // What is agreed is known without the leader, at once and during the election.
    let dead = cluster.leader(SOON).await?;
    cluster.nodes[dead].kill();
    let live = [(dead + 1) % 3, (dead + 2) % 3];
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        for at in live {
            allowed(&webhooks[at], "named/app:v1").await.context("while there is no leader")?;
            denied(&webhooks[at], "named/app:v2", "there is no such image").await?;
            denied(&webhooks[at], "named/none:v1", "there is no such image").await?;
        }
    }
    // A node that is down keeps no image out: neither what it has, nor what came since.
    cluster.leader(SOON).await?;
    push(&mut cluster, "kept/later").await?;
    for at in live {
        soon(&webhooks[at], "kept/app:v1").await.context("with an owner dead")?;
        soon(&webhooks[at], "kept/later:v1").await.context("pushed with an owner dead")?;
    }

    // Of one that answers and lacks a copy it is said.
    let lacking = live[1];
    let hex = image.blobs[1].0.to_string().rsplit(':').next().context("a digest")?.to_owned();
    let file = cluster.nodes[lacking].data_dir.join("blobs/sha256").join(&hex[..2]).join(&hex);
    std::fs::remove_file(&file).with_context(|| file.display().to_string())?;
    let name = cluster.nodes[lacking].name.clone();
    for at in live {
        denied(&webhooks[at], "kept/app:v1", &format!("{name}, which should have it")).await?;
        allowed(&webhooks[at], "kept/later:v1").await?;
    }
    cluster.nodes[dead].start()?;
    cluster.healthy(SOON).await?;
    for webhook in &webhooks {
        denied(webhook, "kept/app:v1", &format!("{name}, which should have it"))
            .await
            .context("two hold it")?;
    }

    // A node that starts looks for what it lacks, and gets it.
    cluster.nodes[lacking].kill();
    cluster.nodes[lacking].start()?;
    cluster.healthy(SOON).await?;
    for webhook in &webhooks {
        soon(webhook, "kept/app:v1").await.context("after repair")?;
    }
    ensure!(file.exists(), "it is said to be repaired, and is not");
    cluster.done();
    Ok(())
}

/// Pushes an image as `v1`, through a node that lives.
async fn push(cluster: &mut Cluster, repo: &str) -> Result<Image> {
    let image = Image::random(&[10_000]);
    let client = cluster.clients().into_iter().next().context("no node lives")?;
    let answer = image.push(&client, repo, "v1").await?;
    ensure!(answer.status == 201, "{answer}");
    Ok(image)
}

async fn verdict(webhook: &Webhook, image: &str) -> Result<Verdict> {
    webhook.validate(&reviewed(&format!("{OURS}/{image}"))?).await
}

async fn allowed(webhook: &Webhook, image: &str) -> Result<()> {
    let verdict = verdict(webhook, image).await?;
    ensure!(verdict == Verdict::Allowed, "{image}: {verdict:?}");
    Ok(())
}

/// Denied, for a reason that has these words.
async fn denied(webhook: &Webhook, image: &str, words: &str) -> Result<()> {
    match verdict(webhook, image).await? {
        Verdict::Denied(why) if why.contains(words) => Ok(()),
        other => bail!("{image}: {other:?}, and not {words:?}"),
    }
}

/// Allowed in a while: a node that just died or came back may be asked in vain before that is noticed.
async fn soon(webhook: &Webhook, image: &str) -> Result<()> {
    let until = Instant::now() + SOON;
    loop {
        match verdict(webhook, image).await? {
            Verdict::Allowed => return Ok(()),
            Verdict::Denied(why) => ensure!(Instant::now() < until, "{image} is denied still: {why}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
