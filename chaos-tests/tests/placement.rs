//! Five nodes at factor 3: each blob lies in exactly three data directories, evenly, and a sixth node
//! moves a sixth.
//!
//! One tiny blob is pushed into each of the 1024 partitions, so that counting files measures the agreed
//! table itself and not the luck of a sample.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::audit;
use chaos_tests::client::Client;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::content::Content;
use chaos_tests::report::scenario;
use futures::{StreamExt, TryStreamExt, stream};
use trow_raft::{Digest, PartitionId};

const REPO: &str = "placed/blobs";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_lie_on_three_of_five_nodes_and_a_sixth_takes_its_share() {
    scenario("placement", Duration::from_secs(400), run()).await;
}

async fn run() -> Result<()> {
    let began = Instant::now();
    let mut cluster = Cluster::start(Plan::of(5)).await?;
    let nodes = cluster.clients();
    let blobs = one_in_each_partition();
    let pushes = stream::iter(blobs.iter().enumerate().map(Ok::<_, anyhow::Error>));
    pushes
        .try_for_each_concurrent(8, |(index, (digest, content))| {
            let node = &nodes[index % nodes.len()];
            async move {
                let answer = node.push_blob_by_post(REPO, *content, digest).await?;
                ensure!(answer.status == 201, "push through {}: {}", node.node, answer);
                Ok(())
            }
        })
        .await?;
    eprintln!("{} blobs pushed after {:.1?}", blobs.len(), began.elapsed());
    cluster.settled(Duration::from_secs(120)).await?;
    eprintln!("settled after {:.1?}", began.elapsed());
    let before = placed(&cluster, &blobs)?;
    balanced(&before)?;

    let digests: Arc<Vec<Digest>> = Arc::new(blobs.iter().map(|(digest, _)| *digest).collect());
    let sample = digests.iter().step_by(16).flat_map(|digest| nodes.iter().map(move |node| (node, digest)));
    let reads = stream::iter(sample.map(|(node, digest)| audit::blob(node, REPO, digest)));
    reads.buffer_unordered(8).try_collect::<()>().await?;
    ensure!(placed(&cluster, &blobs)? == before, "pulling left copies behind");

    eprintln!("a sample read through every node after {:.1?}", began.elapsed());
    let pulls = Pulls::start(&nodes, Arc::clone(&digests));
    cluster.add()?.start()?;
    cluster.healthy(Duration::from_secs(60)).await.context("the sixth node joins")?;
    cluster.settled(Duration::from_secs(150)).await.context("with the sixth node")?;
    eprintln!("settled with the sixth node after {:.1?}", began.elapsed());
    let pulled = pulls.stop().await?;
    let after = placed(&cluster, &blobs)?;
    balanced(&after)?;
    let gained = after.difference(&before).count();
    let ideal = after.len() / 6;
    eprintln!("{gained} of {} copies moved, ideal {ideal}; {pulled} pulls meanwhile", after.len());
    ensure!(gained <= ideal + ideal / 5, "{gained} copies moved where {ideal} would do");
    ensure!(pulled > 50, "only {pulled} pulls went on");
    audit::blob(&cluster.nodes[5].client(), REPO, &digests[0]).await?;
    cluster.done();
    Ok(())
}

fn one_in_each_partition() -> Vec<(Digest, Content)> {
    let mut found: BTreeMap<u16, (Digest, Content)> = BTreeMap::new();
    while found.len() < usize::from(PartitionId::COUNT) {
        let content = Content::random(600);
        let digest = content.digest();
        found.entry(digest.partition().index()).or_insert((digest, content));
    }
    found.into_values().collect()
}

/// Every copy on disk as (digest, node); each blob must have exactly three.
fn placed(cluster: &Cluster, blobs: &[(Digest, Content)]) -> Result<BTreeSet<(String, usize)>> {
    let mut copies = BTreeSet::new();
    for (index, node) in cluster.nodes.iter().enumerate() {
        copies.extend(node.held().into_iter().map(|hex| (hex, index)));
    }
    for (digest, _) in blobs {
        let hex = digest.hex();
        let holders = copies.range((hex.clone(), 0)..=(hex, usize::MAX)).count();
        ensure!(holders == 3, "{digest} lies on {holders} nodes");
    }
    ensure!(copies.len() == 3 * blobs.len(), "{} files for {} blobs", copies.len(), blobs.len());
    Ok(copies)
}

fn balanced(copies: &BTreeSet<(String, usize)>) -> Result<()> {
    let mut loads: BTreeMap<usize, usize> = BTreeMap::new();
    copies.iter().for_each(|(_, node)| *loads.entry(*node).or_default() += 1);
    let mean = copies.len() as f64 / loads.len() as f64;
    let most = loads.values().copied().max().unwrap_or(0) as f64;
    eprintln!("copies on each node: {:?}, max/mean {:.3}", loads.values().collect::<Vec<_>>(), most / mean);
    ensure!(most / mean <= 1.1, "the load is uneven: {loads:?}");
    Ok(())
}

/// Pulls that go on until they are stopped; none may fail.
struct Pulls {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<Result<()>>>,
}

impl Pulls {
    fn start(nodes: &[Client], digests: Arc<Vec<Digest>>) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let tasks = nodes.iter().cloned().enumerate().map(|(first, node)| {
            let (stop, done, digests) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&digests));
            tokio::spawn(async move {
                let mut at = first * 101;
                while !stop.load(Ordering::Relaxed) {
                    audit::blob(&node, REPO, &digests[at % digests.len()]).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                    at += 37;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(())
            })
        });
        let tasks = tasks.collect();
        Pulls { stop, done, tasks }
    }

    async fn stop(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await?.context("a pull while the sixth node joins")?;
        }
        Ok(self.done.load(Ordering::Relaxed))
    }
}
