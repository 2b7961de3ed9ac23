//! What is fetched with credentials, and registries that list it without having it.

use std::time::Duration;

use trow_api::pull::{PullError, UpstreamName};
use trow_raft::Digest;

use super::cluster::*;
use crate::replicated::tests::harness::{content, read, soon};

/// All that may be asked of a blob under a name, through every node: nothing of it is here.
async fn is_not_there(cluster: &Cluster, name: &UpstreamName, digest: &Digest) {
    for node in cluster.caches.keys() {
        let whole = cluster.open_as(*node, name, digest).await.err();
        assert!(matches!(whole, Some(PullError::NotFound)), "through node {node}: {whole:?}");
        let part = cluster.caches[node].blob(name, digest, &|_| Some(3..9));
        assert!(matches!(soon(part).await.err(), Some(PullError::NotFound)), "a part through node {node}");
        assert_eq!(soon(cluster.caches[node].hold(name, digest)).await, None, "mounted through node {node}");
        for of in cluster.caches.keys().filter(|of| *of != node) {
            let of_node = super::cluster::node(*of);
            let there = soon(cluster.peers[node].look_cached(of_node, name.local(), digest, false));
            assert_eq!(there.await.unwrap(), None, "node {of} says so to node {node}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cached_for_users_is_given_elsewhere_only_by_who_has_it() {
    let cluster = Cluster::new(3).await;
    let team = secret("team/app");
    // One that is kept in memory as well, and one that is not.
    for (seed, size) in [(60, 2000), (61, MIB)] {
        let bytes = content(seed, size);
        cluster.secret.has(&bytes, |given| given.repos = vec!["team/app", "open/app"]);
        let digest = cluster.list_as(team.clone(), &bytes, size);
        for node in 1..=3 {
            let body = cluster.open_as(node, &team, &digest).await.unwrap();
            assert_eq!(read(body).await.0, bytes);
        }
        cluster.until_held_by(&digest, 2).await;
        assert_eq!(cluster.secret.gets(&bytes), [0]);
        // Of another registry, and of one that is the same but for everybody.
        let hostile = other("evil/app");
        cluster.list_as(hostile.clone(), &bytes, size);
        is_not_there(&cluster, &hostile, &digest).await;
        // One that lies about them gives nothing either, neither as a whole nor the end of them.
        cluster.other.has(&bytes, |given| {
            given.repos = vec!["evil/lies"];
            given.bytes = content(seed + 100, size);
        });
        let lies = other("evil/lies");
        cluster.list_as(lies.clone(), &bytes, size);
        for node in 1..=3 {
            if let Ok(body) = cluster.open_as(node, &lies, &digest).await {
                let (got, error) = read(body).await;
                assert!(error.is_some() && !bytes.starts_with(&got[..got.len().min(64)]) || got.is_empty());
            }
        }
        // One that has them gives them, once for all, and what a mount takes too.
        cluster.other.has(&bytes, |given| given.repos = vec!["evil/app"]);
        let before = cluster.other.gets(&bytes).len();
        for node in [1, 2, 3, 1, 2, 3] {
            let body = cluster.open_as(node, &hostile, &digest).await.unwrap();
            assert_eq!(read(body).await.0, bytes, "through node {node}");
        }
        assert_eq!(cluster.other.gets(&bytes).len(), before + 1, "{:?}", cluster.other.gets(&bytes));
        // Readers have the last byte before the file is kept.
        soon(async {
            while cluster.caches[&1].hold(&hostile, &digest).await.is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        // What everybody may have needs no further proof.
        let third = name("app");
        cluster.list_as(third.clone(), &bytes, size);
        assert_eq!(read(cluster.open_as(2, &third, &digest).await.unwrap()).await.0, bytes);
        assert!(cluster.upstream.gets(&bytes).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_along_whose_name_is_for_everybody() {
    let cluster = Cluster::new(3).await;
    let bytes = content(62, 2 * MIB);
    let gate = cluster.secret.has(&bytes, |given| given.repos = vec!["team/app"]);
    let (team, open) = (secret("team/app"), secret("open/app"));
    let digest = cluster.list_as(team.clone(), &bytes, bytes.len());
    // The same registry lists it where it has it not.
    cluster.list_as(open.clone(), &bytes, bytes.len());
    gate.send(MIB).unwrap();
    let mut body = cluster.open_as(1, &team, &digest).await.unwrap();
    let mut got = take(&mut body, 1000).await;
    is_not_there(&cluster, &open, &digest).await;
    // Another name for users reads along.
    let too = secret("team/too");
    cluster.list_as(too.clone(), &bytes, bytes.len());
    let along = cluster.open_as(2, &too, &digest).await.unwrap();
    gate.send(usize::MAX).unwrap();
    got.extend(read(body).await.0);
    assert!(got == bytes && read(along).await.0 == bytes);
    cluster.until_held_by(&digest, 2).await;
    is_not_there(&cluster, &open, &digest).await;
    let of_team = cluster.secret.gets(&bytes).len();
    let body = cluster.open_as(3, &too, &digest).await.unwrap();
    assert_eq!(read(body).await.0, bytes);
    assert_eq!(cluster.secret.gets(&bytes).len(), of_team, "it is cached for users");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_everybody_may_have_is_fetched_once_whoever_lists_it_and_users_have_it_too() {
    let cluster = Cluster::new(3).await;
    let bytes = content(63, MIB);
    let digest = cluster.has(&bytes);
    assert_eq!(read(cluster.open(1, &digest).await.unwrap()).await.0, bytes);
    cluster.until_held_by(&digest, 2).await;
    for name in [other("mirror/app"), secret("team/app"), secret("open/app")] {
        cluster.list_as(name.clone(), &bytes, bytes.len());
        for node in 1..=3 {
            let body = cluster.open_as(node, &name, &digest).await.unwrap();
            assert_eq!(read(body).await.0, bytes, "{name} through node {node}");
        }
    }
    assert_eq!(cluster.upstream.gets(&bytes), [0]);
    assert!(cluster.other.gets(&bytes).is_empty() && cluster.secret.gets(&bytes).is_empty());
    // Also when nobody knows any more where it came from: the registry is asked once.
    let holders = cluster.nodes.holders(&digest);
    for node in &holders {
        let store = cluster.nodes.store(*node);
        store.lose_origin(&digest);
        assert!(store.origin(&digest).is_none());
    }
    for node in [1, 2, 3, 1, 2, 3] {
        assert_eq!(read(cluster.open(node, &digest).await.unwrap()).await.0, bytes);
    }
    assert_eq!(cluster.upstream.gets(&bytes), [0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_credentials_are_rolled_out_nodes_that_have_them_give_nothing_to_those_that_have_not() {
    let cluster = Cluster::rolled_out(3, false, 1).await;
    let team = secret("team/app");
    // One of each home.
    let mut homes = std::collections::BTreeSet::new();
    for seed in 70.. {
        let bytes = content(seed, 2000);
        let (home, _) = cluster.home(&Digest::sha256(&bytes));
        if !homes.insert(home) {
            continue;
        }
        cluster.secret.has(&bytes, |given| given.repos = vec!["team/app"]);
        let digest = cluster.list_as(team.clone(), &bytes, bytes.len());
        if home == 1 {
            for node in [2, 3] {
                let whole = cluster.open_as(node, &team, &digest).await.err();
                assert!(matches!(whole, Some(PullError::LoginNeeded)), "through node {node}: {whole:?}");
            }
            assert!(cluster.secret.gets(&bytes).is_empty(), "it was fetched for nobody");
            // What a known user had fetched is on the home alone.
            assert_eq!(read(cluster.open_as(1, &team, &digest).await.unwrap()).await.0, bytes);
            cluster.until_held_by(&digest, 1).await;
            for node in [2, 3] {
                assert!(cluster.open_as(node, &team, &digest).await.is_err(), "through node {node}");
                assert_eq!(soon(cluster.caches[&node].hold(&team, &digest)).await, None, "mounted");
                let (to, from, origin) =
                    (super::cluster::node(node), [super::cluster::node(1)], team.local());
                let kept = cluster.peers[&1].keep_cached(to, &digest, &from, Some(origin.clone()), true);
                assert!(soon(kept).await.is_err(), "node {node} would give it to everybody");
            }
            assert_eq!(cluster.nodes.holders(&digest), [1]);
        }
        if homes.len() == 3 {
            break;
        }
    }
}
