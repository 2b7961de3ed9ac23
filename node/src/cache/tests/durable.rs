//! From cached to kept: a write quorum holds the blob before anybody says so.

use std::collections::BTreeSet;
use std::time::Duration;

use trow_api::pull::PullError;
use trow_raft::{Command, Outcome};

use super::cluster::*;
use crate::replicated::tests::harness::{content, read, repo, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_blob_is_held_by_a_quorum_before_it_is_said_to_be() {
    let cluster = Cluster::new(4).await;
    let bytes = content(40, MIB);
    let digest = cluster.has(&bytes);
    assert_eq!(soon(cluster.caches[&1].hold(&name("app"), &digest)).await, None, "nobody has it");
    assert_eq!(read(cluster.open(1, &digest).await.unwrap()).await.0, bytes);
    cluster.until_held_by(&digest, 2).await;
    assert_eq!(soon(cluster.caches[&1].hold(&name("other"), &digest)).await, None, "not listed there");
    // Through each node, whether it has it or not.
    for node in 1..=4 {
        let (size, evidence) = soon(cluster.caches[&node].hold(&name("app"), &digest)).await.unwrap();
        assert_eq!(size, bytes.len() as u64);
        let by: BTreeSet<u64> = evidence.iter().map(|word| word.node.0).collect();
        assert!(by.len() >= 2, "{evidence:?}");
        for node in by {
            assert!(cluster.nodes.store(node).look(&digest).now, "node {node} may let it go");
        }
        let commit = Command::CommitBlob { repo: repo(), digest, size, evidence };
        assert_eq!(cluster.nodes.ledger.propose(commit).outcome, Outcome::Done);
    }
    assert!(cluster.nodes.is_linked(&digest));
    // The cluster keeps it now; where it is known by which name it came it is read as what is kept.
    for node in 1..=4 {
        cluster.nodes.store(node).is_durable_now(&digest);
    }
    for node in 1..=4 {
        let knows = cluster.nodes.store(node).origin(&digest).is_some();
        assert_eq!(read(cluster.open(node, &digest).await.unwrap()).await.0, bytes);
        assert_eq!(cluster.caches[&node].stats().reads[4], ("durable", u64::from(knows)));
        assert!(soon(cluster.caches[&node].hold(&name("app"), &digest)).await.is_some());
    }
    assert!((1..=4).any(|node| cluster.caches[&node].stats().reads[4].1 > 0));
    assert_eq!(cluster.upstream.gets(&bytes), [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_that_can_hold_it_promise_nothing() {
    let cluster = Cluster::new(3).await;
    let bytes = content(41, MIB);
    let digest = cluster.has(&bytes);
    assert_eq!(read(cluster.open(1, &digest).await.unwrap()).await.0, bytes);
    cluster.until_held_by(&digest, 2).await;
    let holder = cluster.nodes.holders(&digest)[0];
    for node in (1..=3).filter(|node| *node != holder) {
        cluster.nodes.net.down(node);
    }
    assert_eq!(soon(cluster.caches[&holder].hold(&name("app"), &digest)).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_here_is_not_given_under_the_name_of_an_upstream_that_lists_it() {
    let cluster = Cluster::new(3).await;
    let size = 2000;
    let bytes = content(42, size);
    let digest = cluster.nodes.push(1, &bytes).await.unwrap();
    let listed = other("evil/app");
    cluster.list_as(listed.clone(), &bytes, size);
    for in_repo in [true, false] {
        if !in_repo {
            let unlink = Command::DeleteLink { repo: repo(), digest };
            assert_eq!(cluster.nodes.ledger.propose(unlink).outcome, Outcome::Done);
        }
        for node in 1..=3 {
            let given = cluster.open_as(node, &listed, &digest).await.err();
            assert!(matches!(given, Some(PullError::NotFound)), "through node {node}: {given:?}");
            assert_eq!(soon(cluster.caches[&node].hold(&listed, &digest)).await, None, "mounted");
        }
    }
    // One that gives them as well is believed.
    cluster.other.has(&bytes, |given| given.repos = vec!["evil/app"]);
    // That it did not is remembered for a moment.
    let body = soon(async {
        loop {
            match cluster.open_as(1, &listed, &digest).await {
                Ok(body) => break body,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await;
    assert_eq!(read(body).await.0, bytes);
    for node in [1, 2, 3, 1, 2, 3] {
        let body = cluster.open_as(node, &listed, &digest).await.unwrap();
        assert_eq!(read(body).await.0, bytes, "through node {node}");
    }
}
