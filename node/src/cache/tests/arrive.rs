//! Blobs on their way, and everybody who waits for them.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;

use super::cluster::*;
use crate::peer_blobs::Wanted;
use crate::replicated::tests::harness::{content, read, soon};

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_on_all_nodes_cost_one_get_and_two_copies_are_kept() {
    let cluster = Cluster::new(4).await;
    let bytes = content(1, 2 * MIB + 17);
    let digest = cluster.has(&bytes);
    let (home, _) = cluster.home(&digest);
    let pulls = (0..60).map(|n| {
        let cluster = &cluster;
        async move { read(cluster.open(1 + n % 4, &digest).await.unwrap()).await }
    });
    for (got, error) in join_all(pulls).await {
        assert!(error.is_none() && got == bytes, "{error:?} after {} bytes", got.len());
    }
    assert_eq!(cluster.upstream.gets(&bytes), [0]);
    cluster.until_held_by(&digest, 2).await;
    let holders = cluster.nodes.holders(&digest);
    assert!(holders.contains(&home), "{holders:?} without the home {home}");
    // From now on nobody is asked, not even when the home is gone.
    cluster.upstream.forget();
    cluster.nodes.net.down(home);
    for node in (1..=4).filter(|node| *node != home) {
        assert_eq!(read(cluster.open(node, &digest).await.unwrap()).await.0, bytes, "through node {node}");
        let part = cluster.part(node, &digest, 1_000_000..1_300_000).await;
        assert_eq!(read(part).await.0, &bytes[1_000_000..1_300_000]);
    }
    assert_eq!(cluster.upstream.gets(&bytes), [0]);
    for node in &holders {
        assert!(cluster.nodes.store(*node).is_cached(&digest), "kept without a promise");
        assert_eq!(cluster.nodes.store(*node).look(&digest), crate::store::Acknowledged::default());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_pause_reaches_every_reader_on_every_node() {
    let cluster = Cluster::new(3).await;
    let bytes = content(2, 6 * MIB);
    let half = 3 * MIB;
    let gate = cluster.upstream.has(&bytes, |_| ());
    let digest = cluster.list(&bytes, bytes.len());
    gate.send(half).unwrap();
    let mut whole = vec![];
    let mut parts = vec![];
    for node in 1..=3 {
        whole.push((cluster.open(node, &digest).await.unwrap(), vec![]));
        // One in what came, one that ends in what is to come, one that begins there.
        for range in [100..2_000_000, 1_500_000..5_000_000, 4_000_000..4_500_000_u64] {
            parts.push((cluster.part(node, &digest, range.clone()).await, range, vec![]));
        }
    }
    // All of these come while the upstream waits.
    for (body, got) in &mut whole {
        *got = take(body, half - MIB).await;
    }
    for (body, range, got) in &mut parts {
        let there = (half - MIB).saturating_sub(range.start as usize).min((range.end - range.start) as usize);
        *got = take(body, there).await;
    }
    gate.send(usize::MAX).unwrap();
    for (body, mut got) in whole {
        let (rest, error) = read(body).await;
        got.extend(rest);
        assert!(error.is_none() && got == bytes, "{error:?}");
    }
    for (body, range, mut got) in parts {
        got.extend(read(body).await.0);
        assert_eq!(got, &bytes[range.start as usize..range.end as usize], "{range:?}");
    }
    assert_eq!(cluster.upstream.gets(&bytes), [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_piece_waits_for_the_last_byte() {
    let cluster = Cluster::new(1).await;
    let bytes = content(3, 2 * MIB);
    let gate = cluster.upstream.has(&bytes, |_| ());
    let digest = cluster.list(&bytes, bytes.len());
    gate.send(bytes.len() - 1).unwrap();
    let mut body = cluster.open(1, &digest).await.unwrap();
    let mut got = take(&mut body, MIB).await;
    // All that may come comes, and no more of it than that.
    while let Ok(Some(more)) = tokio::time::timeout(Duration::from_millis(300), body.next()).await {
        got.extend_from_slice(&more.unwrap());
    }
    assert!(got.len() < bytes.len() - 1 && got == bytes[..got.len()], "{} of {}", got.len(), bytes.len());
    gate.send(usize::MAX).unwrap();
    got.extend(read(body).await.0);
    assert!(got == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_vanished_readers_hold_nobody_up() {
    let cluster = Cluster::new(3).await;
    let bytes = content(4, 8 * MIB);
    let digest = cluster.has(&bytes);
    let (home, others) = cluster.home(&digest);
    // They read a little and no more: on the home, and through another node.
    let mut slow =
        [cluster.open(home, &digest).await.unwrap(), cluster.open(others[0], &digest).await.unwrap()];
    let mut got = vec![];
    for body in &mut slow {
        got.push(take(body, 1).await);
    }
    drop(cluster.open(others[1], &digest).await.unwrap());
    cluster.until_held_by(&digest, 2).await;
    for (body, mut got) in slow.into_iter().zip(got) {
        got.extend(read(body).await.0);
        assert!(got == bytes, "what was slow is whole all the same");
    }
    assert_eq!(cluster.upstream.gets(&bytes), [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_goes_on_when_all_its_readers_are_gone() {
    let cluster = Cluster::new(3).await;
    let bytes = content(5, 3 * MIB);
    let gate = cluster.upstream.has(&bytes, |_| ());
    let digest = cluster.list(&bytes, bytes.len());
    gate.send(MIB).unwrap();
    for node in 1..=3 {
        let mut body = cluster.open(node, &digest).await.unwrap();
        take(&mut body, 1).await;
    }
    gate.send(usize::MAX).unwrap();
    cluster.until_held_by(&digest, 2).await;
    assert_eq!(cluster.upstream.gets(&bytes), [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_taken_for_the_home_asks_no_third_one_and_the_home_reads_along() {
    let cluster = Cluster::new(4).await;
    let bytes = content(6, 4 * MIB);
    let gate = cluster.upstream.has(&bytes, |_| ());
    let digest = cluster.list(&bytes, bytes.len());
    gate.send(2 * MIB).unwrap();
    let (home, others) = cluster.home(&digest);
    // Another ring than ours said that it was the home.
    let (taken, from) = (node(others[0]), others[1]);
    let (app, size) = (name("app"), bytes.len() as u64);
    let range = 0..size;
    let wanted =
        Wanted { repo: app.local(), digest: &digest, size, range, only_there: false, for_user: false };
    let mut there = soon(cluster.peers[&from].cached(taken, wanted)).await.unwrap().body;
    let first = take(&mut there, MIB).await;
    let mut here = cluster.open(home, &digest).await.unwrap();
    let second = take(&mut here, MIB).await;
    gate.send(usize::MAX).unwrap();
    for (body, mut got) in [(there, first), (here, second)] {
        got.extend(read(body).await.0);
        assert!(got == bytes);
    }
    assert_eq!(cluster.upstream.gets(&bytes), [0], "the blob arrived once");
    let gets = cluster.nodes.net.requests.lock().unwrap().clone();
    let gets: Vec<_> = gets.iter().filter(|line| line.contains(" GET /cache/blob/")).cloned().collect();
    let asked = |from: u64, to: u64| format!("{} {} GET /cache/blob/{digest}", node(from), node(to));
    assert_eq!(gets, [asked(from, others[0]), asked(home, others[0])]);
}
