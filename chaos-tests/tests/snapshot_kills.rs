//! The receiver of a snapshot is killed: after each of its durable steps, and at each tenth of the stream.
//!
//! Each time it was away until the log was cut, so that nothing but the whole state brings it back; each time
//! it is started again, and its state hash is the leader's.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::away::{self, SHORT_LOG};
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::link::Link;
use chaos_tests::metrics;
use chaos_tests::process::Node;
use chaos_tests::report::scenario;
use chaos_tests::require;
use chaos_tests::steps::Steps;

/// How long a follower may take to be back.
const BACK: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_killed_after_any_sync_or_rename_of_an_install_comes_back_with_the_leaders_state() {
    if require::tools(&["strace"]) {
        scenario("snapshot-steps", Duration::from_secs(900), steps()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_killed_at_any_tenth_of_the_stream_comes_back_with_the_leaders_state() {
    scenario("snapshot-tenths", Duration::from_secs(600), tenths()).await;
}

/// Where the follower stands that is sent a state of about 4 MB.
async fn begun(cluster: &mut Cluster) -> Result<(usize, usize)> {
    let leader = cluster.leader(Duration::from_secs(20)).await?;
    let follower = (leader + 1) % cluster.nodes.len();
    let client = cluster.nodes[leader].client();
    for number in 0..20 {
        let name = format!("m{number}");
        let pushed = client.put_manifest("some", &name, away::INDEX, away::index(&name, 200_000)).await?;
        ensure!(pushed.status == 201, "{pushed}");
    }
    Ok((leader, follower))
}

/// Kills the follower and goes on without it until it cannot come back by the log.
async fn left_behind(cluster: &mut Cluster, follower: usize) -> Result<()> {
    cluster.nodes[follower].kill();
    away::until_cut(cluster, follower).await
}

/// The follower, started again, has the state that the leader has.
async fn comes_back(cluster: &mut Cluster, leader: usize, follower: usize) -> Result<()> {
    cluster.nodes[follower].start()?;
    cluster.nodes[follower].ready(BACK).await?;
    away::agree(cluster, leader, follower, BACK).await?;
    let left = std::fs::read_dir(cluster.nodes[follower].data_dir.join("raft/state"))?.count();
    ensure!(left == 2, "{left} files instead of CURRENT and the state");
    Ok(())
}

/// A step is known by its call, its file and its place among those on that file, so that what other threads
/// do meanwhile moves none: each run kills the follower after the first that was not met yet.
async fn steps() -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(3).config(SHORT_LOG)).await?;
    let (leader, follower) = begun(&mut cluster).await?;
    let mut met = Vec::new();
    loop {
        ensure!(met.len() < 200, "an install has no end: {met:?}");
        left_behind(&mut cluster, follower).await?;
        let Some(step) = killed_after_another(&mut cluster, leader, follower, &met).await? else { break };
        comes_back(&mut cluster, leader, follower).await.with_context(|| format!("killed after {step}"))?;
        met.push(step);
    }
    eprintln!("killed after each of {} steps:\n{}", met.len(), met.join("\n"));
    // What an install is made of was met: the file, its place, the switch to it, the cut of the log.
    for part in ["/raft/state/incoming-#", "rename \"/n", "/raft/state/CURRENT.tmp", "/raft/log.redb"] {
        ensure!(met.iter().any(|step| step.contains(part)), "no step has to do with {part}: {met:?}");
    }
    cluster.nodes[follower].kill();
    comes_back(&mut cluster, leader, follower).await?;
    cluster.done();
    Ok(())
}

/// What the steps of one process are called, whatever numbers its files have.
#[derive(Default)]
struct Names {
    counts: HashMap<String, usize>,
    files: HashSet<String>,
}

impl Names {
    /// The name of a step of an install, by its place among those on the same file; none for other steps.
    fn of(&mut self, step: &str, root: &str) -> Option<String> {
        let (call, on) = step.split_once('(')?;
        let path = on.split_once('<').map_or(on, |(_, path)| path.split('>').next().unwrap_or(path));
        let what = format!("{call} {}", path.trim_end_matches(')').replace(root, ""));
        if !what.contains("/raft/") {
            return None;
        }
        let is_rows = what.contains("/raft/state/incoming-");
        if is_rows && call != "rename" && self.files.insert(what.clone()) {
            // Another transfer: its steps on the other files are counted anew.
            self.counts.retain(|what, _| what.contains("/raft/state/incoming-"));
        }
        if self.files.is_empty() {
            return None;
        }
        let count = self.counts.entry(what.clone()).or_default();
        // The log goes on after the install; its first steps are those that cut it.
        *count = (*count + 1).min(if what.contains("log.redb") { 3 } else { 40 });
        let digits = what.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty());
        Some(format!("{}: {count}", digits.collect::<Vec<_>>().join("#")))
    }
}

/// Starts the follower and kills it after a step of its install that is not in `met`, and returns it; none
/// when the install was over before.
async fn killed_after_another(
    cluster: &mut Cluster,
    leader: usize,
    follower: usize,
    met: &[String],
) -> Result<Option<String>> {
    let root = cluster.root().to_owned();
    let target = away::applied(cluster, leader).await?;
    let mut steps = Steps::start(&mut cluster.nodes[follower], &root.join(format!("steps-{}", met.len())))?;
    let (mut names, until) = (Names::default(), Instant::now() + BACK);
    loop {
        let node = &mut cluster.nodes[follower];
        for step in steps.next(node, Instant::now() + Duration::from_millis(100)).await? {
            if let Some(name) = names.of(&step, &root.display().to_string())
                && !met.contains(&name)
            {
                node.kill();
                return Ok(Some(name));
            }
        }
        let stopped = node.stands_still();
        node.resume();
        // It is over when the follower has what the leader had, and its log begins there.
        if !stopped && !names.files.is_empty() && purged(node).await.is_some_and(|purged| purged >= target) {
            return Ok(None);
        }
        ensure!(
            Instant::now() < until,
            "no install within {BACK:?}:\n{}",
            cluster.nodes[follower].log_tail(30)
        );
    }
}

/// Where the log of `node` begins; none when it stands still before it says so, and would for as long as it is asked.
async fn purged(node: &Node) -> Option<u64> {
    let still = async {
        while !node.stands_still() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        read = metrics::read(node, "trow_raft_purged_index", &[]) => Some(read.ok()? as u64),
        () = still => None,
    }
}

async fn tenths() -> Result<()> {
    let mut cluster = Cluster::prepare(Plan::of(3)).await?;
    let mut links = Vec::new();
    let mut config = format!("{SHORT_LOG}[cluster.dial]\n");
    for node in &cluster.nodes {
        let link = Link::to(&node.peer).await?;
        config += &format!("{} = {:?}\n", node.name, link.address);
        links.push(link);
    }
    std::fs::write(cluster.root().join("trow.toml"), config)?;
    cluster.start_all().await?;
    let (leader, follower) = begun(&mut cluster).await?;

    left_behind(&mut cluster, follower).await?;
    let before = links[follower].passed();
    comes_back(&mut cluster, leader, follower).await?;
    let whole = links[follower].passed() - before;
    ensure!(whole > 4_000_000, "only {whole} bytes came: not the state");
    for tenth in 1..=9 {
        left_behind(&mut cluster, follower).await?;
        let at = links[follower].passed() + whole * tenth / 10;
        links[follower].hold_at(at);
        cluster.nodes[follower].start()?;
        let (state, until) = (cluster.nodes[follower].data_dir.join("raft/state"), Instant::now() + BACK);
        let receiving = || {
            let files = std::fs::read_dir(&state).into_iter().flatten().flatten();
            files.map(|file| file.file_name()).any(|name| name.to_string_lossy().starts_with("incoming-"))
        };
        while links[follower].passed() < at || !receiving() {
            let tail = || cluster.nodes[follower].log_tail(30);
            ensure!(Instant::now() < until, "the stream does not come to tenth {tenth}:\n{}", tail());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let installed = metrics::read(&cluster.nodes[follower], "trow_raft_installs_total", &[]).await?;
        ensure!(installed == 0.0, "it was over before tenth {tenth}");
        cluster.nodes[follower].kill();
        links[follower].release();
        comes_back(&mut cluster, leader, follower).await.with_context(|| format!("killed at {tenth}/10"))?;
        let installed = metrics::read(&cluster.nodes[follower], "trow_raft_installs_total", &[]).await?;
        ensure!(installed == 1.0, "it came back after {tenth}/10 by something else than the state");
    }
    cluster.done();
    Ok(())
}
