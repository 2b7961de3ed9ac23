//! A stream of reviews through three nodes, two images by turns of which the policy lets one run, while the leader
//! and then a follower is killed and comes back, and the policy changes: no answer is wrong, before, during or after
//! an election, and no review is lost beyond those that were in flight to the node that died.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::report::scenario;
use chaos_tests::webhook::{Verdict, Webhook};
use futures::future::try_join_all;
use serde_json::Value;

use super::site::{IMAGES, REVIEW, alternating, reviewed, set_soon, webhooks};

/// Reviews are sent by so many at once, as many to each node.
const STREAMS: usize = 9;
/// Nodes that are killed, one after another: the leader and a follower by turns.
const DEATHS: usize = 4;
/// Reviews that are answered before a death, while a node is dead, and after it is back.
const BETWEEN: u64 = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reviews_are_answered_rightly_while_nodes_die_and_the_policy_changes() {
    scenario("admission while nodes die", Duration::from_secs(400), run()).await;
}

async fn run() -> Result<()> {
    let mut cluster = Cluster::dev(Plan::of(3)).await?;
    let webhooks = webhooks(&cluster).await?;
    for webhook in &webhooks {
        let verdict = webhook.validate(&serde_json::from_str(REVIEW)?).await?;
        ensure!(verdict == Verdict::Allowed, "denied before there is a policy");
    }
    set_soon(&cluster, 0, &alternating(0)).await?;
    let reviews = [reviewed(IMAGES[0])?, reviewed(IMAGES[1])?];
    let told = Arc::new(Told::default());
    let streams = (0..STREAMS).map(|at| {
        let stream =
            Stream { webhooks: webhooks.clone(), home: at % 3, reviews: reviews.clone(), told: told.clone() };
        tokio::spawn(stream.run())
    });
    let streams: Vec<_> = streams.collect();
    let outcome = deaths(&mut cluster, &told).await;
    told.stop.fetch_add(1, Ordering::SeqCst);
    let mut lost = 0;
    for stream in try_join_all(streams).await? {
        // What a stream saw says more than that the others waited for it in vain.
        lost += stream?;
    }
    outcome?;
    let (sent, unconfirmed) = (told.answered(), told.unconfirmed.load(Ordering::SeqCst));
    eprintln!(
        "admission: {sent} reviews, {lost} lost with {DEATHS} deaths, {unconfirmed} by the policy before, and said so"
    );
    ensure!(
        lost <= DEATHS * STREAMS / 3,
        "{lost} reviews were lost, of one in flight for each caller of a dead node"
    );
    ensure!(unconfirmed * 50 <= sent, "{unconfirmed} of {sent} reviews were judged by an old policy");
    cluster.done();
    Ok(())
}

/// Kills nodes and starts them again, with a change of the policy before, in between and after.
async fn deaths(cluster: &mut Cluster, told: &Told) -> Result<()> {
    let mut changes = 0;
    for death in 0..DEATHS {
        told.reach(BETWEEN).await.context("before a death")?;
        let leader = cluster.leader(Duration::from_secs(60)).await?;
        let victim = if death % 2 == 0 { leader } else { (leader + 1 + death / 2) % 3 };
        told.deaths[victim].fetch_add(1, Ordering::SeqCst);
        cluster.nodes[victim].kill();
        cluster.leader(Duration::from_secs(60)).await?;
        changes += 1;
        change(cluster, (victim + 1) % 3, changes, told).await.context("while a node is dead")?;
        told.reach(BETWEEN).await.context("while a node is dead")?;
        cluster.nodes[victim].start()?;
        cluster.healthy(Duration::from_secs(90)).await?;
        told.deaths[victim].fetch_add(1, Ordering::SeqCst);
        changes += 1;
        change(cluster, victim, changes, told).await.context("through the node that came back")?;
    }
    told.reach(BETWEEN).await.context("after the last death")
}

/// Sets the next policy: from when that is done nobody may go by the one before.
async fn change(cluster: &Cluster, node: usize, changes: usize, told: &Told) -> Result<()> {
    told.begun.store(changes, Ordering::SeqCst);
    set_soon(cluster, node, &alternating(changes)).await?;
    told.done.store(changes, Ordering::SeqCst);
    Ok(())
}

/// What the callers and the fault know of each other.
#[derive(Default)]
struct Told {
    /// How many changes of the policy were begun, and are done.
    begun: AtomicUsize,
    done: AtomicUsize,
    /// For each node, how often it died and came back: odd while it is dead.
    deaths: [AtomicUsize; 3],
    /// Answers by each node.
    answers: [AtomicU64; 3],
    /// Answers by an old policy that say that no quorum confirmed it.
    unconfirmed: AtomicU64,
    stop: AtomicUsize,
}

impl Told {
    fn life(&self, node: usize) -> usize {
        self.deaths[node].load(Ordering::SeqCst)
    }

    fn answered(&self) -> u64 {
        self.answers.iter().map(|answers| answers.load(Ordering::SeqCst)).sum()
    }

    /// Returns when every live node answered a share of so many reviews more.
    async fn reach(&self, more: u64) -> Result<()> {
        let counts = || self.answers.iter().map(|count| count.load(Ordering::SeqCst)).collect::<Vec<_>>();
        let (before, until) = (counts(), Instant::now() + Duration::from_secs(120));
        loop {
            let now = counts();
            let got = |at: usize| self.life(at) % 2 == 1 || now[at] - before[at] >= more / 3;
            if (0..3).all(got) {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("from {before:?} to {now:?} answers in 120 s");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One caller, which goes to another node while its own is dead.
struct Stream {
    webhooks: Vec<Webhook>,
    home: usize,
    reviews: [Value; 2],
    told: Arc<Told>,
}

impl Stream {
    /// Sends reviews until it is told to stop; how many were lost with a node that died.
    async fn run(self) -> Result<usize> {
        let (mut lost, mut turn) = (0, self.home);
        let until = Instant::now() + Duration::from_secs(380);
        while self.told.stop.load(Ordering::SeqCst) == 0 {
            ensure!(Instant::now() < until, "nobody ended the stream");
            turn += 1;
            let mut lives = (0..3).map(|more| (self.home + more) % 3).map(|at| (at, self.told.life(at)));
            let (node, life) = lives.find(|(_, life)| life % 2 == 0).context("all nodes are dead")?;
            match self.judge(node, turn % 2).await {
                Ok(()) => {
                    self.told.answers[node].fetch_add(1, Ordering::SeqCst);
                }
                Err(error) if error.is::<Wrong>() => return Err(error),
                Err(_) if self.told.life(node) != life => lost += 1,
                Err(error) => return Err(error.context(format!("n{}, alive, refused a review", node + 1))),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(lost)
    }

    /// Sends one review, and compares the verdict with those of the policies that held meanwhile.
    async fn judge(&self, node: usize, image: usize) -> Result<()> {
        let first = self.told.done.load(Ordering::SeqCst);
        let (verdict, unconfirmed) = self.webhooks[node].ask(&self.reviews[image]).await?;
        let last = self.told.begun.load(Ordering::SeqCst);
        let allowed = match verdict {
            Verdict::Allowed => true,
            Verdict::Denied(why) if why.contains(IMAGES[image]) && why.contains("denied by default") => false,
            Verdict::Denied(why) => return Err(Wrong(format!("n{}: {why}", node + 1)).into()),
        };
        let gives = |changes: usize| (changes % 2 == image) == allowed;
        if (first..=last).any(gives) {
            return Ok(());
        }
        if unconfirmed && first.checked_sub(1).is_some_and(gives) {
            self.told.unconfirmed.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        let text = format!("n{}: {} allowed: {allowed}, policy {first}", node + 1, IMAGES[image]);
        Err(Wrong(text).into())
    }
}

/// A verdict that no policy gives that held while the review was out.
#[derive(Debug, thiserror::Error)]
#[error("a wrong verdict: {0}")]
struct Wrong(String);
