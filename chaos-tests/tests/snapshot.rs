//! A follower was away until the log was cut, with many manifests in the state, and comes back while clients
//! go on writing and reading.
//!
//! `TROW_MANIFESTS` is how many (2,000 unless said). Prints what the transfer cost: bytes, time, and the peak
//! memory of both ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::away::{self, INDEX, SHORT_LOG};
use chaos_tests::client::Client;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::metrics;
use chaos_tests::report::{median_and_worst, scenario};
use futures::{StreamExt, TryStreamExt, stream};
use trow_raft::Digest;

/// Requests at once that make the manifests.
const AT_ONCE: usize = 48;
/// Manifests of one repository.
const PER_REPO: usize = 1000;
/// What a write or a read may take while the state is sent.
const BOUND: Duration = Duration::from_secs(5);
/// What neither end may need, whatever the size of the state.
const MEMORY: u64 = 300_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_away_until_the_log_was_cut_gets_the_state_while_clients_go_on() {
    let many = std::env::var("TROW_MANIFESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    scenario("snapshot", Duration::from_secs(300 + many as u64 / 20), run(many)).await;
}

fn repo(number: usize) -> String {
    format!("many/r{}", number / PER_REPO)
}

fn manifest(number: usize) -> bytes::Bytes {
    away::index(&format!("m{number}"), 300)
}

async fn run(many: usize) -> Result<()> {
    let mut cluster = Cluster::start(Plan::of(3).config(SHORT_LOG)).await?;
    let leader = cluster.leader(Duration::from_secs(20)).await?;
    let follower = (leader + 1) % 3;
    cluster.nodes[follower].kill();

    let began = Instant::now();
    fill(&cluster.clients(), many).await?;
    eprintln!("{many} manifests in {:.1} s", began.elapsed().as_secs_f64());
    away::until_cut(&mut cluster, follower).await?;

    let clients = cluster.clients();
    let (stop, begun, over) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
    cluster.nodes[leader].forget_peak_memory()?;
    let back = async {
        // Some of the writes come before the state is sent, some while, some after.
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.nodes[follower].start()?;
        begun.store(true, Ordering::Relaxed);
        let started = Instant::now();
        installed(&mut cluster, follower, Duration::from_secs(120 + many as u64 / 200)).await?;
        let took = started.elapsed();
        over.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.store(true, Ordering::Relaxed);
        anyhow::Ok(took)
    };
    let work =
        at_work(&clients, many, &stop, || begun.load(Ordering::Relaxed) && !over.load(Ordering::Relaxed));
    let (took, (written, times, during)) = futures::future::try_join(back, work).await?;
    ensure!(during > 0, "nothing was written between the start of the follower and its installation");
    let (median, worst) = median_and_worst(times.clone()).context("nothing was done")?;
    eprintln!(
        "{} requests, {during} of them between its start and the installation: median {median:?}, slowest {worst:?}",
        times.len()
    );
    ensure!(worst < BOUND, "a request took {worst:?}");

    away::agree(&cluster, leader, follower, Duration::from_secs(60)).await?;
    for node in [leader, follower] {
        let (node, peak) = (&cluster.nodes[node], cluster.nodes[node].peak_memory()?);
        eprintln!("{}: {} MB resident at most", node.name, peak / 1_000_000);
        ensure!(peak < MEMORY, "{} needed {peak} bytes", node.name);
    }
    let (bytes, ms) = received(&std::fs::read_to_string(&cluster.nodes[follower].log)?)?;
    eprintln!(
        "snapshot: {bytes} bytes received in {ms} ms, installed {:.1} s after the start",
        took.as_secs_f64()
    );
    ensure!(bytes > 300 * many as u64, "{bytes} bytes are not {many} manifests");

    let state = cluster.nodes[follower].data_dir.join("raft/state");
    let files = std::fs::read_dir(&state)?.flatten().filter_map(|file| file.metadata().ok());
    eprintln!("state file: {} bytes", files.map(|meta| meta.len()).max().unwrap_or(0));
    let step = (many / 100).max(1);
    for client in cluster.clients() {
        for number in (0..many).step_by(step) {
            let expected = manifest(number);
            same(&client, &repo(number), &Digest::sha256(&expected).to_string(), &expected).await?;
            same(&client, &repo(number), &format!("t{number}"), &expected).await?;
        }
        for (tag, expected) in &written {
            same(&client, "while", tag, expected).await?;
        }
    }
    cluster.done();
    Ok(())
}

/// Pushes the manifests, spread over `clients`.
async fn fill(clients: &[Client], many: usize) -> Result<()> {
    let pushes = stream::iter(0..many).map(|number| async move {
        let client = &clients[number % clients.len()];
        let answer =
            client.put_manifest(&repo(number), &format!("t{number}"), INDEX, manifest(number)).await?;
        ensure!(answer.status == 201, "manifest {number}: {answer}");
        Ok(())
    });
    pushes.buffer_unordered(AT_ONCE).try_collect::<()>().await
}

type Written = Vec<(String, bytes::Bytes)>;

/// Writes, and reads by tag what was made before, until told to stop: what was written, how long each request
/// took, and how many were begun and done while `counts`.
async fn at_work(
    clients: &[Client],
    many: usize,
    stop: &AtomicBool,
    counts: impl Fn() -> bool,
) -> Result<(Written, Vec<Duration>, usize)> {
    let (mut written, mut times, mut during) = (Vec::new(), Vec::new(), 0);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let counted = counts();
        let (tag, bytes) = (format!("w{number}"), away::index(&format!("while {number}"), 300));
        let began = Instant::now();
        let writer = &clients[number % clients.len()];
        let answer = writer.put_manifest("while", &tag, INDEX, bytes.clone()).await?;
        times.push(began.elapsed());
        ensure!(answer.status == 201, "write {number}: {answer}");
        written.push((tag, bytes));
        let began = Instant::now();
        let old = (number * 37) % many;
        same(&clients[(number + 1) % clients.len()], &repo(old), &format!("t{old}"), &manifest(old)).await?;
        times.push(began.elapsed());
        during += 2 * usize::from(counted && counts());
    }
    Ok((written, times, during))
}

/// Waits until the node has installed a snapshot.
async fn installed(cluster: &mut Cluster, index: usize, limit: Duration) -> Result<()> {
    let until = Instant::now() + limit;
    loop {
        let node = &mut cluster.nodes[index];
        ensure!(node.is_running(), "{} ended:\n{}", node.name, node.log_tail(30));
        if metrics::read(node, "trow_raft_installs_total", &[]).await.is_ok_and(|count| count > 0.0) {
            return Ok(());
        }
        ensure!(Instant::now() < until, "no snapshot within {limit:?}:\n{}", node.log_tail(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Bytes and milliseconds of the transfer, as the receiver's log has them.
fn received(log: &str) -> Result<(u64, u64)> {
    let line = log.lines().rev().find(|line| line.contains("received the state that the leader sent"));
    let line = line.context("the log does not speak of a received state")?;
    let number = |name: &str| {
        let rest = line.split_once(&format!("{name}=")).with_context(|| format!("no {name} in {line:?}"))?.1;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
        digits.parse::<u64>().with_context(|| format!("{name} in {line:?}"))
    };
    Ok((number("bytes")?, number("ms")?))
}

async fn same(client: &Client, repo: &str, reference: &str, expected: &bytes::Bytes) -> Result<()> {
    let answer = client.manifest(repo, reference).await?;
    ensure!(answer.status == 200 && !answer.stale(), "{repo}:{reference} of {}: {answer}", client.node);
    ensure!(answer.body == *expected, "{repo}:{reference} of {} has other bytes", client.node);
    Ok(())
}
