//! Reads everything that was acknowledged through every node, and checks each byte.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use trow_raft::Digest;

use crate::admin::Admin;
use crate::client::Client;
use crate::history::{Event, Kind, Op};
use crate::load::Acked;

/// Reads in flight at once.
const AT_ONCE: usize = 8;

/// Reads every blob and manifest of `acked` through every one of `nodes`.
///
/// # Errors
/// The first that is missing or wrong.
pub async fn everything(nodes: &[Client], acked: &[Acked]) -> Result<()> {
    let reads = nodes.iter().flat_map(|node| acked.iter().map(move |acked| (node, acked)));
    stream::iter(reads.map(Ok)).try_for_each_concurrent(AT_ONCE, |(node, acked)| one(node, acked)).await
}

async fn one(node: &Client, acked: &Acked) -> Result<()> {
    match acked {
        Acked::Blob(repo, digest) => blob(node, repo, digest).await,
        Acked::Manifest(repo, image) => {
            let answer = node.manifest(repo, &image.digest.to_string()).await?;
            ensure!(answer.status == 200, "{repo}@{} through {}: {}", image.digest, node.node, answer.status);
            ensure!(
                answer.body == image.manifest,
                "{repo}@{} through {}: other bytes",
                image.digest,
                node.node
            );
            Ok(())
        }
    }
}

/// Reads one blob through `node`.
///
/// # Errors
/// It is missing, breaks off, or has other bytes.
pub async fn blob(node: &Client, repo: &str, digest: &Digest) -> Result<()> {
    let pulled = node.pull_blob(repo, digest).await?;
    ensure!(pulled.status == 200, "{repo}@{digest} through {}: {}", node.node, pulled.status);
    ensure!(pulled.digest == *digest, "{repo}@{digest} through {}: {} arrived", node.node, pulled.digest);
    Ok(())
}

/// Reads every tag of a history through every node: all agree, and none is older than the last
/// acknowledged move.
///
/// # Errors
/// The first tag that is missing, old, or different.
pub async fn tags(nodes: &[Client], events: &[Event]) -> Result<()> {
    let mut moved: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for event in events.iter().filter(|event| event.f == Op::PutTag && event.kind == Kind::Ok) {
        let tag = event.tag.as_deref().context("a tag")?;
        let last = moved.entry((&event.repo, tag)).or_default();
        *last = event.log_id.unwrap_or(0).max(*last);
    }
    let checks = stream::iter(moved).map(|((repo, tag), floor)| async move {
        let mut seen = None;
        for node in nodes {
            let answer = node.manifest(repo, tag).await?;
            ensure!(answer.status == 200, "{repo}:{tag} through {}: {}", node.node, answer.status);
            let now = (answer.log_id(), Digest::sha256(&answer.body));
            ensure!(
                now.0 >= Some(floor),
                "{repo}:{tag} through {}: {:?}, acknowledged {floor}",
                node.node,
                now.0
            );
            ensure!(*seen.get_or_insert(now) == now, "{repo}:{tag} differs through {}", node.node);
        }
        Ok(())
    });
    checks.buffer_unordered(AT_ONCE).try_collect().await
}

/// Waits until every node reports the same state hash at the same index.
///
/// # Errors
/// Two nodes differ at one index, or they do not meet within 20 s.
pub async fn same_state(admin: &Admin, nodes: &[Client]) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let mut seen: BTreeMap<u64, (String, &str)> = BTreeMap::new();
        for node in nodes {
            let status = admin.status(node).await?;
            let at = status["state_hash_at"].as_u64().context("state_hash_at")?;
            let hash = status["state_hash"].as_str().context("state_hash")?.to_owned();
            let (first, other) = seen.entry(at).or_insert((hash.clone(), &node.node));
            ensure!(*first == hash, "at {at} the state of {other} is {first}, of {} {hash}", node.node);
        }
        if seen.len() == 1 {
            return Ok(());
        }
        ensure!(Instant::now() < until, "the nodes do not reach one index: {seen:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
