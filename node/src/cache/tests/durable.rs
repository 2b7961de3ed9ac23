//! From cached to kept: a write quorum holds the blob before anybody says so.

use std::collections::BTreeSet;

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
    // The cluster keeps it now, and reads it as what it keeps.
    for node in 1..=4 {
        assert_eq!(read(cluster.open(node, &digest).await.unwrap()).await.0, bytes);
        assert_eq!(cluster.caches[&node].stats().reads[4], ("durable", 1));
    }
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
