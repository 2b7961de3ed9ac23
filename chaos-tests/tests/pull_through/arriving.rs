//! Blobs that are still arriving: what is there reaches everybody, whoever dies or dawdles.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chaos_tests::client::Client;
use chaos_tests::content::Content;
use chaos_tests::image::Image;
use chaos_tests::upstream::{Hold, Kind, Rule, Twist};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use trow_raft::Digest;

use super::site::{HERE, LIMIT, REPO, Site, through_three_nodes, until};

const MIB: u64 = 1 << 20;
const LEN: u64 = 8 * MIB;
const HALF: u64 = 4 * MIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_blob_reaches_every_client_on_every_node() {
    through_three_nodes("half a blob", "", half).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_survive_the_death_of_the_node_that_fetches() {
    through_three_nodes("fetching node killed", "", killed).await;
}

/// A pull that is under way.
struct Pulling {
    came: watch::Receiver<u64>,
    task: JoinHandle<Result<()>>,
}

impl Pulling {
    /// Begins; once so many bytes came it stands still until `go` says otherwise.
    fn begin(client: &Client, digest: &Digest, stop: u64, go: &Go) -> Self {
        let (client, digest, go) = (client.clone(), *digest, go.0.subscribe());
        let (tell, came) = watch::channel(0);
        let task = tokio::spawn(async move {
            let request = client.request(reqwest::Method::GET, &format!("/v2/{HERE}/blobs/{digest}"));
            let mut reply = request.send().await.context("GET blob")?;
            ensure!(reply.status() == 200, "GET blob: {}", reply.status());
            let (mut hasher, mut len, mut go) = (<sha2::Sha256 as sha2::Digest>::new(), 0, go);
            while let Some(piece) = reply.chunk().await.with_context(|| format!("after {len} bytes"))? {
                sha2::Digest::update(&mut hasher, &piece);
                len += piece.len() as u64;
                tell.send_replace(len);
                if len >= stop {
                    go.wait_for(|go| *go).await?;
                }
            }
            let came = chaos_tests::content::finish(hasher);
            ensure!(came == digest, "{len} bytes of {came} came instead of {digest}");
            Ok(())
        });
        Pulling { came, task }
    }

    async fn has(&mut self, bytes: u64) -> Result<()> {
        let waited = tokio::time::timeout(LIMIT, self.came.wait_for(|came| *came >= bytes)).await;
        let came = waited.map(|came| came.is_ok());
        match came {
            Ok(true) => Ok(()),
            Ok(false) => (&mut self.task).await?.and_then(|()| anyhow::bail!("it ended early")),
            Err(_) => anyhow::bail!("{} bytes came, not {bytes}", *self.came.borrow()),
        }
    }

    async fn done(self) -> Result<()> {
        tokio::time::timeout(LIMIT, self.task).await.context("the pull does not end")??
    }
}

/// Lets those go on that stand still.
struct Go(watch::Sender<bool>);

async fn begin(site: &mut Site) -> Result<(Image, Digest, Hold)> {
    let image = Image::random(&[LEN]);
    site.upstream.add(REPO, "v1", &image);
    let (digest, hold) = (image.blobs[1].0, Hold::default());
    let stops = Rule::new(Twist::Half(HALF, hold.clone())).method("GET").path(digest.to_string());
    site.upstream.rule(stops.times(1));
    for client in site.clients() {
        ensure!(client.manifest(HERE, "v1").await?.status == 200, "the manifest");
    }
    Ok((image, digest, hold))
}

async fn half(site: &mut Site) -> Result<()> {
    let (_, digest, hold) = begin(site).await?;
    let (clients, go) = (site.clients(), Go(watch::Sender::new(false)));
    let begin = |client: &Client, stop: u64| Pulling::begin(client, &digest, stop, &go);
    // Two of each node; one more that stops reading, and one that goes away.
    let mut pulls: Vec<Pulling> =
        clients.iter().chain(&clients).map(|client| begin(client, u64::MAX)).collect();
    let (mut slow, mut gone) = (begin(&clients[0], 1), begin(&clients[1], u64::MAX));
    slow.has(1).await?;
    gone.has(1).await?;
    gone.task.abort();
    for pull in &mut pulls {
        pull.has(HALF - MIB).await?;
    }
    hold.reached(1, LIMIT).await?;
    // Ranges of what is there are answered, of its beginning and of its end.
    for client in &clients {
        for from in [0, HALF - MIB - 1000] {
            let part = client.blob_range(HERE, &digest, from, from + 999).await?;
            ensure!((part.status, part.body.len()) == (206, 1000), "a range through {}: {part}", client.node);
        }
    }
    ensure!(pulls.iter().all(|pull| !pull.task.is_finished()), "a pull ended before upstream went on");
    hold.release();
    for pull in pulls {
        pull.done().await?;
    }
    ensure!(!slow.task.is_finished(), "the slow one waits");
    go.0.send_replace(true);
    slow.done().await?;
    let gets = site.upstream.asked("GET", &format!("/v2/{REPO}/blobs/{digest}"));
    ensure!(gets == 1, "upstream was asked {gets} times:\n{}", site.asked());
    broken(site).await
}

/// A body that breaks off goes on by range, and who is waiting does not notice.
async fn broken(site: &mut Site) -> Result<()> {
    let content = Content::random(LEN);
    let digest = site.upstream.add_blob(REPO, content);
    let breaks = Rule::new(Twist::Truncate(HALF)).method("GET").path(digest.to_string());
    site.upstream.rule(breaks.times(1));
    let pulled = site.clients()[2].pull_blob(HERE, &digest).await?;
    ensure!(pulled.digest == digest, "{pulled:?}");
    let seen = site.upstream.seen();
    let of_blob =
        seen.iter().filter(|seen| seen.method == "GET" && seen.target.contains(&digest.to_string()));
    let ranges: Vec<Option<&str>> = of_blob.map(|seen| seen.range.as_deref()).collect();
    ensure!(ranges.len() == 2 && ranges[1].is_some_and(|range| range.starts_with("bytes=")), "{ranges:?}");
    Ok(())
}

async fn killed(site: &mut Site) -> Result<()> {
    let (image, digest, hold) = begin(site).await?;
    let go = Go(watch::Sender::new(false));
    let mut pulls: Vec<Pulling> =
        site.clients().iter().map(|client| Pulling::begin(client, &digest, u64::MAX, &go)).collect();
    for pull in &mut pulls {
        pull.has(HALF - MIB).await?;
    }
    hold.reached(1, LIMIT).await?;
    // The one that fetches has a file that grows.
    let grows = |site: &Site| {
        let nodes = site.cluster.nodes.iter().enumerate();
        let grown = |file: &std::path::PathBuf| file.metadata().is_ok_and(|meta| meta.len() >= HALF - MIB);
        nodes.filter(|(_, node)| node.staged().iter().any(grown)).map(|(index, _)| index).collect::<Vec<_>>()
    };
    let fetching = grows(site);
    ensure!(fetching.len() == 1, "{fetching:?} have a file that grows");
    site.cluster.nodes[fetching[0]].kill();
    eprintln!("{} fetched, and was killed with {HALF} bytes there", site.cluster.nodes[fetching[0]].name);
    for (index, pull) in pulls.into_iter().enumerate() {
        match index == fetching[0] {
            true => ensure!(pull.done().await.is_err(), "a dead node sent the rest"),
            false => pull.done().await?,
        }
    }
    hold.release();
    let gets = site.upstream.asked("GET", &format!("/v2/{REPO}/blobs/{digest}"));
    ensure!(gets == 2, "upstream was asked {gets} times:\n{}", site.asked());
    let served = site.clients();
    until("the two that are left have it", async || {
        let seen = site.upstream.count("GET", Kind::Blob);
        for client in &served {
            let pulled = client.clone().within(Duration::from_secs(30)).pull_blob(HERE, &digest).await?;
            ensure!(pulled.digest == image.blobs[1].0, "{pulled:?}");
        }
        Ok(site.upstream.count("GET", Kind::Blob) == seen)
    })
    .await
}
