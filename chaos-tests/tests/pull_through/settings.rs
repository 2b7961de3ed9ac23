//! Settings of upstreams that change while a node runs, and how much a registry is asked at once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chaos_tests::client::Client;
use chaos_tests::cluster::{Cluster, Plan};
use chaos_tests::content::Content;
use chaos_tests::image::Image;
use chaos_tests::process::Node;
use chaos_tests::report::scenario;
use chaos_tests::upstream::{Hold, Kind, Rule, Twist, Upstream};
use tokio::task::JoinSet;

use super::site::{KEEPS, LIMIT, REPO, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_upstreams_count_when_they_change() {
    scenario("settings that change", LIMIT * 3, changes()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_is_asked_no_more_than_its_settings_say() {
    scenario("limits of an upstream", LIMIT * 3, limits()).await;
}

async fn changes() -> Result<()> {
    let (hub, new) = (Upstream::start().await?, Upstream::start().await?);
    let (image, fresh) = (Image::random(&[5000]), Image::random(&[4000]));
    hub.add(REPO, "v1", &image);
    hub.add("team/app", "v1", &image);
    new.add(REPO, "v1", &fresh);
    let base = format!("{KEEPS}upstream.freshness = \"1s\"\n");
    let mut cluster =
        Cluster::start(Plan::of(3).config(&(base.clone() + &hub.settings("hub.example")))).await?;
    let (clients, file) = (cluster.clients(), cluster.root().join("trow.toml"));
    let set = |top: &str, hub_more: &str, rest: &str| -> Result<()> {
        Ok(std::fs::write(&file, format!("{base}{top}{}{hub_more}{rest}", hub.settings("hub.example")))?)
    };
    // On every node.
    let becomes = async |what: &str, path: &str, tag: &str, statuses: &[u16]| {
        for client in &clients {
            until(what, async || Ok(statuses.contains(&client.manifest(path, tag).await?.status))).await?;
        }
        anyhow::Ok(())
    };
    let (app, team) = (format!("f/hub.example/{REPO}"), "f/hub.example/team/app");
    becomes("it is pulled", &app, "v1", &[200]).await?;
    becomes("it is pulled", team, "v1", &[200]).await?;

    // A list of what may not be pulled; what is cached is not given either. The other goes on.
    set("", "deny = [\"team/**\"]\n", "")?;
    becomes("it is denied", team, "v1", &[403]).await?;
    becomes("it is pulled", &app, "v1", &[200]).await?;
    // One of what may, of all registries; and one that is wrong changes nothing.
    set("upstream.allow = [\"hub.example/team/*\"]\n", "", "")?;
    becomes("it is allowed", team, "v1", &[200]).await?;
    becomes("it is not allowed", &app, "v1", &[403]).await?;
    set("upstream.alow = [\"**\"]\n", "", "")?;
    for node in &cluster.nodes {
        until("the log says that the file is wrong", async || {
            Ok(node.log_tail(200).contains("upstream.alow"))
        })
        .await?;
    }
    becomes("it is not allowed", &app, "v1", &[403]).await?;

    // A registry that was not known, and a prefix of it.
    set("", "", &format!("{}[prefixes]\nnew = \"new.example\"\n", new.settings("new.example")))?;
    becomes("the registry is known", "new/library/app", "v1", &[200]).await?;
    becomes("it is pulled", &app, "v1", &[200]).await?;

    // What the registry deletes stays, until it is set that it goes too.
    hub.remove_tag(REPO, "v1");
    for client in &clients {
        until("the deleted tag is stale", async || Ok(client.manifest(&app, "v1").await?.stale())).await?;
    }
    set("", "follow_deletes = true\n", "")?;
    becomes("the tag goes", &app, "v1", &[404]).await?;
    let by_digest = image.digest.to_string();
    becomes("what it named stays under its digest", &app, &by_digest, &[200]).await?;
    becomes("the other repository stays", team, "v1", &[200]).await?;

    // Nobody is asked any more.
    let read_again = |node: &Node| node.log_tail(10_000).matches("were read again").count();
    let before: Vec<usize> = cluster.nodes.iter().map(read_again).collect();
    set("upstream.offline = true\n", "", "")?;
    // Answers are those of a name's home, so that they say of one node alone what it has read.
    for (node, before) in cluster.nodes.iter().zip(before) {
        until("every node has read it", async || Ok(read_again(node) > before)).await?;
    }
    hub.add(REPO, "v2", &fresh);
    becomes("a miss", &app, "v2", &[404]).await?;
    becomes("what is cached", team, "v1", &[200]).await?;
    // What was on its way before may still arrive; nobody had asked for this one.
    let asked = hub.seen().iter().filter(|seen| seen.path().ends_with("/manifests/v2")).count();
    ensure!(asked == 0, "it was asked: {:?}", hub.seen());
    set("", "", "")?;
    becomes("it is asked again", &app, "v2", &[200]).await?;
    cluster.done();
    Ok(())
}

/// Of one node, since each has the limits for itself.
async fn limits() -> Result<()> {
    let (narrow, slow) = (Upstream::start().await?, Upstream::start().await?);
    let config = format!(
        "{KEEPS}{}concurrency = 4\n{}rate = \"5\"\n",
        narrow.settings("narrow.example"),
        slow.settings("slow.example")
    );
    let mut cluster = Cluster::start(Plan::of(1).config(&config)).await?;
    let client = cluster.clients().into_iter().next().context("a client")?;
    at_once(&narrow, &client).await?;
    rate(&slow, &client).await?;
    cluster.done();
    Ok(())
}

/// Three of four requests may be for blobs, which leaves one for what is small.
async fn at_once(narrow: &Upstream, client: &Client) -> Result<()> {
    let (hold, mut pulls) = (Hold::default(), JoinSet::new());
    narrow.rule(Rule::new(Twist::Half(1000, hold.clone())).kind(Kind::Blob).method("GET"));
    narrow.add(REPO, "v1", &Image::random(&[10]));
    for _ in 0..12 {
        let (digest, client) = (narrow.add_blob(REPO, Content::random(20_000)), client.clone());
        pulls.spawn(async move {
            let pulled = client.pull_blob(&format!("f/narrow.example/{REPO}"), &digest).await?;
            ensure!((pulled.status, pulled.digest) == (200, digest), "{pulled:?}");
            anyhow::Ok(())
        });
    }
    hold.reached(3, LIMIT).await?;
    // Small things have their turn meanwhile, and each is a chance for a fourth blob.
    for tag in ["v1", "v2", "v3"] {
        let answer = client.manifest(&format!("f/narrow.example/{REPO}"), tag).await?;
        ensure!(answer.status == if tag == "v1" { 200 } else { 404 }, "{tag}: {answer}");
        let bodies = narrow.count("GET", Kind::Blob);
        ensure!(bodies == 3, "{bodies} blobs at once where 3 may be");
    }
    hold.release();
    while let Some(pulled) = pulls.join_next().await {
        pulled??;
    }
    Ok(())
}

/// Five a second after the first five.
async fn rate(slow: &Upstream, client: &Client) -> Result<()> {
    const TAGS: usize = 20;
    let (began, mut asks) = (Instant::now(), JoinSet::new());
    for number in 0..TAGS {
        let client = client.clone();
        asks.spawn(async move { client.manifest(&format!("f/slow.example/library/a{number}"), "v1").await });
    }
    while let Some(answer) = asks.join_next().await {
        let answer = answer??;
        ensure!(answer.status == 404, "{answer}");
    }
    let (took, requests) = (began.elapsed(), slow.seen().len());
    ensure!(requests >= TAGS, "{requests} requests for {TAGS} tags");
    // However fast the machine is; how slow it may be is nobody's promise.
    let least = Duration::from_secs(1) * (requests as u32 - 5) / 5 - Duration::from_millis(500);
    ensure!(took >= least, "{requests} requests in {took:?}");
    Ok(())
}
