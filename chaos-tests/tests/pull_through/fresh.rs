//! How old an answer may be, and what is answered when nobody can be asked.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::client::{Answer, Client};
use chaos_tests::image::Image;
use chaos_tests::upstream::{Kind, Rule, Twist};

use super::site::{HERE, REPO, Site, head, pull, through_three_nodes, until};

/// As the settings say. A machine that asks all its questions within it must have asked for nothing.
const FRESH: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_is_asked_for_again_when_it_is_old_and_stays_when_nobody_answers() {
    through_three_nodes("freshness", "freshness = \"3s\"\n", run).await;
}

async fn run(site: &mut Site) -> Result<()> {
    let (first, second, partial) =
        (Image::random(&[90_000]), Image::random(&[80_000]), Image::random(&[70_000]));
    site.upstream.add(REPO, "v1", &first);
    site.upstream.add(REPO, "partial", &partial);
    let clients = site.clients();
    let began = Instant::now();
    pull(&clients[0], HERE, "v1", &first).await?;
    for client in clients.iter().cycle().take(30) {
        ensure!(head(client, HERE, "v1").await?.status == 200, "HEAD");
        ensure!(client.manifest(HERE, "v1").await?.body == first.manifest, "GET");
    }
    let asked = site.upstream.count("HEAD", Kind::Manifest) + site.upstream.count("GET", Kind::Manifest);
    if began.elapsed() < FRESH {
        ensure!(asked == 2, "60 reads of a fresh tag cost {asked} requests:\n{}", site.asked());
    }

    // It moves; every node follows, and fetches what it names once for all.
    site.upstream.add(REPO, "v1", &second);
    for client in &clients {
        until("the tag is followed", async || Ok(client.manifest(HERE, "v1").await?.body == second.manifest))
            .await?;
    }
    let moved = format!("/v2/{REPO}/manifests/{}", second.digest);
    ensure!(site.upstream.asked("GET", &moved) == 1, "{}", site.asked());
    // By digest nothing is asked for again, what no tag names any more included.
    let seen = site.upstream.seen().len();
    for image in [&first, &second] {
        let answer = clients[1].manifest(HERE, &image.digest.to_string()).await?;
        ensure!(answer.status == 200 && answer.body == image.manifest && !answer.stale(), "{answer}");
    }
    let asked = site.upstream.seen();
    let by_digest = asked[seen..].iter().filter(|seen| seen.target.contains("sha256:")).count();
    ensure!(by_digest == 0, "digests were asked for again:\n{}", site.asked());

    for (digest, _) in &second.blobs {
        ensure!(clients[2].pull_blob(HERE, digest).await?.digest == *digest, "{digest}");
    }
    ensure!(clients[0].manifest(HERE, "partial").await?.status == 200, "a manifest without its blobs");
    unwell(site, &clients, &second).await?;
    gone(site, &clients, &second).await?;
    deleted(site, &clients[0], &second).await?;
    offline(site, &second).await
}

/// A registry that is there but will not do: what is cached is the answer, and says so.
async fn unwell(site: &Site, clients: &[Client], image: &Image) -> Result<()> {
    for status in [429, 401, 503] {
        site.upstream.behave();
        site.upstream.rule(Rule::new(Twist::Answer(status)));
        stale(&clients[1], "v1", image, |warning| warning.contains("upstream docker.io")).await?;
        site.upstream.behave();
        until("it is well again", async || Ok(!clients[1].manifest(HERE, "v1").await?.stale())).await?;
    }
    Ok(())
}

/// Waits until an answer is marked.
async fn stale(client: &Client, tag: &str, image: &Image, says: impl Fn(&str) -> bool) -> Result<Answer> {
    let mut last = None;
    until("an answer says that it is stale", async || {
        let answer = client.manifest(HERE, tag).await?;
        ensure!(answer.status == 200 && answer.body == image.manifest, "{answer}");
        let marked = answer.stale();
        last = Some(answer);
        Ok(marked)
    })
    .await?;
    let answer = last.context("an answer")?;
    let warning = answer.header("warning").unwrap_or_default();
    ensure!(warning.starts_with("299 - \"stale: ") && says(warning), "{warning:?}");
    Ok(answer)
}

/// A registry that is gone.
async fn gone(site: &mut Site, clients: &[Client], image: &Image) -> Result<()> {
    site.upstream.down().await;
    for client in clients {
        stale(client, "v1", image, |warning| warning.contains("upstream docker.io")).await?;
        for (digest, _) in &image.blobs {
            ensure!(client.pull_blob(HERE, digest).await?.digest == *digest, "{digest}");
        }
        let complete = head(client, HERE, "v1").await?;
        ensure!(complete.status == 200 && complete.stale(), "HEAD of an image that is here: {complete}");
        until("HEAD is refused of an image whose blobs are not here", async || {
            let partial = head(client, HERE, "partial").await?;
            Ok(partial.status == 503 && partial.header("retry-after").is_some())
        })
        .await?;
        for reference in ["never", &chaos_tests::content::Content::random(1).digest().to_string()] {
            let miss = client.manifest(HERE, reference).await?;
            let retry = miss.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
            ensure!(miss.status == 503 && retry.is_some(), "a miss: {miss}, Retry-After {retry:?}");
        }
    }
    site.upstream.up().await
}

/// A tag that upstream deleted is kept, and marked.
async fn deleted(site: &Site, client: &Client, image: &Image) -> Result<()> {
    until("it is back", async || Ok(!client.manifest(HERE, "v1").await?.stale())).await?;
    site.upstream.remove_tag(REPO, "v1");
    stale(client, "v1", image, |_| true).await.map(drop)
}

/// Nobody is asked.
async fn offline(site: &mut Site, image: &Image) -> Result<()> {
    let config = site.cluster.root().join("trow.toml");
    // Before the table of one registry, which a key of all cannot come after.
    let text = format!("upstream.offline = true\n{}", std::fs::read_to_string(&config)?);
    std::fs::write(&config, text)?;
    for node in &mut site.cluster.nodes {
        node.kill();
    }
    site.cluster.start_all().await?;
    site.upstream.forget();
    for client in site.clients() {
        pull(&client, HERE, "v1", image).await?;
        let miss = client.manifest(HERE, "never").await?;
        ensure!(miss.status == 404, "an offline miss: {miss}");
        let miss = client.manifest("f/elsewhere.example/app", "v1").await?;
        ensure!(miss.status == 404, "an offline miss of another registry: {miss}");
    }
    ensure!(site.upstream.seen().is_empty(), "somebody was asked:\n{}", site.asked());
    Ok(())
}
