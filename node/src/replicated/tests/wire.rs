//! The same over real HTTP/1.1: what a refusal in mid-body and a broken body look like there.

use trow_api::blobs::{Blobs as _, UploadError};
use trow_raft::Digest;

use super::super::Limits;
use super::harness::*;

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn pushes_and_pulls_stream_through_any_node() {
    let nodes = Nodes::new(5).await;
    nodes.listen().await;
    let bytes = content(30, 20 * MIB + 3);
    for node in 1..=3 {
        let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
        let (token, _) = soon(nodes.blobs(node).append(&repo(), &token, None, body(&bytes))).await.unwrap();
        let digest = Digest::sha256(&bytes);
        soon(nodes.blobs(node + 2).finish(&repo(), &token, &digest, None, empty(), "test")).await.unwrap();
    }
    let digest = Digest::sha256(&bytes);
    let size = bytes.len() as u64;
    for node in 1..=5 {
        let opened = soon(nodes.blobs(node).open(&digest, size, 0..size)).await.unwrap();
        let (got, error) = read(opened).await;
        assert!(error.is_none() && got == bytes, "through node {node}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_dies_in_mid_body_is_followed_by_the_next() {
    let nodes = Nodes::new(3).await;
    nodes.listen().await;
    let bytes = content(31, 8 * MIB);
    let digest = nodes.place(&bytes, &[2, 3]).await;
    nodes.net.down_after(2, 3 * MIB as u64);
    nodes.net.down_after(3, 7 * MIB as u64);
    let size = bytes.len() as u64;
    let opened = soon(nodes.blobs(1).open(&digest, size, 0..size)).await.unwrap();
    let (got, error) = read(opened).await;
    assert!(error.is_none() && got == bytes, "{error:?} after {}", got.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_mid_body_is_heard() {
    let limits = Limits { max_bytes: 2 * MIB as u64, ..LIMITS };
    let nodes = Nodes::with_limits(3, limits).await;
    nodes.listen().await;
    let bytes = content(32, 30 * MIB);
    for _ in 0..5 {
        let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
        let refused = soon(nodes.blobs(2).append(&repo(), &token, None, body(&bytes))).await;
        assert!(matches!(refused, Err(UploadError::TooMany)), "{refused:?}");
        nodes.blobs(3).cancel(&repo(), &token).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_reaches_the_home_as_broken() {
    let nodes = Nodes::new(3).await;
    nodes.listen().await;
    let bytes = content(33, 3 * MIB);
    let digest = Digest::sha256(&bytes);
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    let gone = futures::stream::once(async { Err(std::io::Error::other("gone")) });
    let broken = futures::StreamExt::chain(body(&bytes.slice(..MIB)), gone);
    let lost = soon(nodes.blobs(2).append(&repo(), &token, None, Box::pin(broken))).await;
    assert!(matches!(lost, Err(UploadError::ClientGone(_))), "{lost:?}");
    let (token, have) = soon(nodes.blobs(3).progress(&repo(), &token)).await.unwrap();
    assert!(have <= MIB as u64);
    let rest = bytes.slice(have as usize..);
    soon(nodes.blobs(3).finish(&repo(), &token, &digest, Some(have), body(&rest), "test")).await.unwrap();
    assert!(nodes.is_linked(&digest));
}
