//! Uploads whose home is told to end.

use std::time::Duration;

use trow_api::blobs::Blobs as _;
use trow_raft::{Digest, NodeId};

use super::harness::*;
use super::uploads::gated;
use crate::peer_blobs::Upload;

const MIB: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_leaves_hands_its_upload_on() {
    let nodes = Nodes::new(3).await;
    let bytes = content(40, 2 * MIB);
    let digest = Digest::sha256(&bytes);
    let (head, tail) = (bytes.slice(..MIB), bytes.slice(MIB..));
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    let (token, _) = nodes.blobs(1).append(&repo(), &token, None, body(&head)).await.unwrap();
    let mirror = nodes.where_is(&token)[1];
    soon(nodes.blobs(1).leave(LIMIT)).await;
    // Through the very node that leaves: it still answers, and asks the mirror.
    let (token, length) = soon(nodes.blobs(1).append(&repo(), &token, None, body(&tail))).await.unwrap();
    assert_eq!((length, nodes.where_is(&token)[0]), (bytes.len() as u64, mirror));
    nodes.net.down(1);
    soon(nodes.blobs(mirror).finish(&repo(), &token, &digest, None, empty(), "test")).await.unwrap();
    assert!(nodes.is_linked(&digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_forgot_the_upload_has_every_byte_before_its_home_leaves() {
    let nodes = Nodes::new(3).await;
    let bytes = content(41, MIB);
    let digest = Digest::sha256(&bytes);
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    let (token, _) = nodes.blobs(1).append(&repo(), &token, None, body(&bytes)).await.unwrap();
    let mirror = nodes.where_is(&token)[1];
    // As a restart would have it.
    let ticket = nodes.blobs(1).ticket(&repo(), &token).unwrap();
    let ticket = nodes.blobs(1).inner.uploads.seal().seal(&repo(), &ticket);
    let upload = Upload { repo: &repo(), ticket: &ticket };
    nodes.blobs(1).inner.peers.mirror_drop(NodeId(mirror), upload).await.unwrap();
    soon(nodes.blobs(1).leave(LIMIT)).await;
    nodes.net.down(1);
    soon(nodes.blobs(5 - mirror).finish(&repo(), &token, &digest, None, empty(), "test")).await.unwrap();
    assert!(nodes.is_linked(&digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_mirror_is_gone_is_served_to_the_end_by_a_home_that_leaves() {
    let nodes = Nodes::new(3).await;
    let bytes = content(42, MIB);
    let digest = Digest::sha256(&bytes);
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    let (token, _) = nodes.blobs(1).append(&repo(), &token, None, body(&bytes)).await.unwrap();
    let mirror = nodes.where_is(&token)[1];
    nodes.net.down(mirror);
    soon(nodes.blobs(1).leave(LIMIT)).await;
    soon(nodes.blobs(1).finish(&repo(), &token, &digest, None, empty(), "test")).await.unwrap();
    assert!(nodes.is_linked(&digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_progress_is_taken_to_its_end_before_the_upload_is_handed_on() {
    let nodes = Nodes::new(3).await;
    let bytes = content(43, 2 * MIB);
    let digest = Digest::sha256(&bytes);
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    let (open, gate) = tokio::sync::oneshot::channel();
    let (blobs, chunk) = (nodes.blobs(1).clone(), gated(&bytes, MIB, gate));
    let patch = tokio::spawn(async move { blobs.append(&repo(), &token, None, chunk).await });
    let staged = async {
        while nodes.blobs(1).stats().bytes < MIB as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(staged).await;
    let blobs = nodes.blobs(1).clone();
    let leave = tokio::spawn(async move { blobs.leave(LIMIT).await });
    // Longer than a request waits before it breaks into another one's body.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(!patch.is_finished() && !leave.is_finished());
    open.send(()).unwrap();
    let (token, length) = soon(patch).await.unwrap().unwrap();
    assert_eq!(length, bytes.len() as u64);
    soon(leave).await.unwrap();
    nodes.net.down(1);
    soon(nodes.blobs(2).finish(&repo(), &token, &digest, None, empty(), "test")).await.unwrap();
    assert!(nodes.is_linked(&digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_begins_at_a_node_that_leaves_unless_it_is_alone() {
    let nodes = Nodes::new(3).await;
    soon(nodes.blobs(1).leave(LIMIT)).await;
    let token = soon(nodes.blobs(1).start(&repo(), None)).await.unwrap();
    assert_ne!(nodes.where_is(&token)[0], 1);
    nodes.net.down(2);
    nodes.net.down(3);
    assert!(soon(nodes.blobs(1).start(&repo(), None)).await.is_err(), "no quorum without the others");

    let alone = Nodes::new(1).await;
    let bytes = content(44, MIB);
    let token = alone.blobs(1).start(&repo(), None).await.unwrap();
    soon(alone.blobs(1).leave(LIMIT)).await;
    let (token, _) = alone.blobs(1).append(&repo(), &token, None, body(&bytes)).await.unwrap();
    let digest = Digest::sha256(&bytes);
    alone.blobs(1).finish(&repo(), &token, &digest, None, empty(), "test").await.unwrap();
    let digest = alone.push(1, &content(45, 100)).await.unwrap();
    assert!(alone.is_linked(&digest));
}
