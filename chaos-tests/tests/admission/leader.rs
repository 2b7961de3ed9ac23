//! Three nodes answer reviews over HTTPS to a client with only the caBundle, while one of them, the leader, is
//! killed: no answer is wrong, before, during or after the election, and no review is refused beyond those that
//! were in flight to the node that died.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::report::scenario;
use chaos_tests::webhook::{Verdict, Webhook};
use futures::future::try_join_all;
use serde_json::Value;

use super::site::{REVIEW, set, webhooks};

/// What lets that Pod in.
const POLICY: &str = "version: 1\ndefault: deny\nallow:\n  - image: docker.io/library/app\n  - image: quay.io/tools/**\n  \
                      - image: ghcr.io/acme/**\n";
/// Reviews are sent by so many at once.
const STREAMS: usize = 9;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reviews_are_answered_rightly_while_the_leader_dies() {
    scenario("admission while the leader dies", Duration::from_secs(240), run()).await;
}

async fn run() -> Result<()> {
    let mut cluster = Cluster::dev(Plan::of(3)).await?;
    let webhooks = webhooks(&cluster).await?;
    let allowed: Value = serde_json::from_str(REVIEW)?;
    let denied: Value =
        serde_json::from_str(&REVIEW.replace("docker.io/library/app:1", "docker.io/library/bad:1"))?;
    for webhook in &webhooks {
        ensure!(webhook.validate(&denied).await? == Verdict::Allowed, "denied before there is a policy");
    }
    set(&cluster, 0, POLICY).await?;
    for webhook in &webhooks {
        judge(webhook, &allowed, &denied, &AtomicU64::new(0))
            .await
            .context("right after the policy was set")?;
    }

    let victim = cluster.leader(Duration::from_secs(30)).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let dead = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let streams = (0..STREAMS).map(|at| {
        let stream = Stream {
            webhooks: webhooks.clone(),
            at: at % webhooks.len(),
            victim,
            reviews: (allowed.clone(), denied.clone()),
            dead: dead.clone(),
            stop: stop.clone(),
            count: count.clone(),
        };
        tokio::spawn(stream.run())
    });
    let streams: Vec<_> = streams.collect();
    reach(&count, 300).await?;
    dead.store(true, Ordering::SeqCst);
    cluster.nodes[victim].kill();
    let at_death = count.load(Ordering::SeqCst);
    cluster.leader(Duration::from_secs(60)).await?;
    reach(&count, at_death + 600).await?;

    stop.store(true, Ordering::SeqCst);
    let mut refused = 0;
    for stream in try_join_all(streams).await? {
        refused += stream?;
    }
    let sent = count.load(Ordering::SeqCst);
    eprintln!("admission: {sent} reviews, {refused} lost with the node that died, of {STREAMS} streams");
    ensure!(refused <= STREAMS as u64, "{refused} reviews were lost, of at most {STREAMS} in flight");

    // A change holds on every node that can be reached once it is said to be done.
    let survivor = (victim + 1) % webhooks.len();
    set(&cluster, survivor, "version: 1\ndefault: deny\n").await?;
    for (at, webhook) in webhooks.iter().enumerate().filter(|(at, _)| *at != victim) {
        let verdict = webhook.validate(&allowed).await?;
        ensure!(matches!(verdict, Verdict::Denied(_)), "n{} still decides by the policy before", at + 1);
    }

    cluster.nodes[victim].start()?;
    cluster.healthy(Duration::from_secs(60)).await?;
    let verdict = webhooks[victim].validate(&allowed).await.context("from the node that came back")?;
    ensure!(matches!(verdict, Verdict::Denied(_)), "the node that came back decides by the old policy");
    cluster.done();
    Ok(())
}

/// One caller after another, as one API server is.
struct Stream {
    webhooks: Vec<Webhook>,
    at: usize,
    victim: usize,
    reviews: (Value, Value),
    dead: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
}

impl Stream {
    /// Sends reviews until it is told to stop; how many were lost with the node that died.
    async fn run(mut self) -> Result<u64> {
        let mut lost = 0;
        let until = Instant::now() + Duration::from_secs(180);
        while !self.stop.load(Ordering::SeqCst) {
            ensure!(Instant::now() < until, "nobody ended the stream");
            let webhook = &self.webhooks[self.at];
            let judged = judge(webhook, &self.reviews.0, &self.reviews.1, &self.count).await;
            match judged {
                Ok(()) => {}
                Err(error) if error.is::<Wrong>() => return Err(error),
                Err(_) if self.at == self.victim && self.dead.load(Ordering::SeqCst) => {
                    lost += 1;
                    self.at = (self.at + 1) % self.webhooks.len();
                }
                Err(error) => return Err(error.context("a live node refused a review")),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(lost)
    }
}

/// A verdict that the policy does not give.
#[derive(Debug, thiserror::Error)]
#[error("a wrong verdict: {0}")]
struct Wrong(String);

/// Sends both reviews and compares the verdicts.
async fn judge(webhook: &Webhook, allowed: &Value, denied: &Value, count: &AtomicU64) -> Result<()> {
    if let Verdict::Denied(why) = webhook.validate(allowed).await? {
        return Err(Wrong(format!("an allowed Pod is denied: {why}")).into());
    }
    match webhook.validate(denied).await? {
        Verdict::Denied(why) if why.contains("docker.io/library/bad:1") => {}
        other => return Err(Wrong(format!("a denied Pod: {other:?}")).into()),
    }
    count.fetch_add(2, Ordering::SeqCst);
    Ok(())
}

async fn reach(count: &AtomicU64, wanted: u64) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(60);
    while count.load(Ordering::SeqCst) < wanted {
        if Instant::now() > until {
            bail!("{} reviews are answered, and not {wanted}", count.load(Ordering::SeqCst));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
