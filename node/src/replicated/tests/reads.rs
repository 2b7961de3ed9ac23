//! Pulling from wherever the bytes are.

use trow_api::blobs::{Blobs as _, ReadBlobError};

use super::harness::*;

const MIB: usize = 1 << 20;

async fn pull(nodes: &Nodes, node: u64, bytes: &bytes::Bytes) -> (Vec<u8>, Option<std::io::Error>) {
    let digest = trow_raft::Digest::sha256(bytes);
    let size = bytes.len() as u64;
    read(soon(nodes.blobs(node).open(&digest, size, 0..size)).await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_serves_a_blob_and_keeps_no_copy_of_it() {
    let nodes = Nodes::new(5).await;
    let bytes = content(1, 3 * MIB + 17);
    let digest = nodes.place(&bytes, &[2, 3]).await;
    for node in 1..=5 {
        let (got, error) = pull(&nodes, node, &bytes).await;
        assert!(error.is_none() && got == bytes, "through node {node}: {error:?}");
        let part =
            soon(nodes.blobs(node).open(&digest, bytes.len() as u64, 262_140..1_500_000)).await.unwrap();
        assert_eq!(read(part).await.0, &bytes[262_140..1_500_000]);
    }
    assert_eq!(nodes.holders(&digest), [2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_survives_the_loss_of_its_source_within_the_response() {
    let nodes = Nodes::new(5).await;
    let bytes = content(2, 6 * MIB);
    nodes.place(&bytes, &[2, 3]).await;
    nodes.net.down_after(2, 2 * MIB as u64);
    nodes.net.down_after(3, 5 * MIB as u64);
    let (got, error) = pull(&nodes, 1, &bytes).await;
    // One of them went down and the other took over; together they sent the blob once.
    assert!(error.is_none() && got == bytes, "{error:?} after {} bytes", got.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_survives_a_source_that_hangs() {
    let nodes = Nodes::new(3).await;
    let bytes = content(3, 2 * MIB);
    let digest = nodes.place(&bytes, &[2, 3]).await;
    let size = bytes.len() as u64;
    let mut body = soon(nodes.blobs(1).open(&digest, size, 0..size)).await.unwrap();
    let first = soon(futures::StreamExt::next(&mut body)).await.unwrap().unwrap();
    let requests = nodes.net.requests.lock().unwrap().clone();
    let source = if requests.last().unwrap().contains(&format!(" {} ", id(2))) { 2 } else { 3 };
    nodes.net.hang(source);
    let (rest, error) = read(body).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!([&first[..], &rest].concat(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_is_followed_by_another_within_the_response() {
    let nodes = Nodes::new(3).await;
    let bytes = content(4, 2 * MIB);
    let digest = nodes.place(&bytes, &[1, 2]).await;
    let file = nodes.file(1, &digest);
    let mut wrong = std::fs::read(&file).unwrap();
    wrong[MIB + 5] ^= 0x40;
    std::fs::write(&file, wrong).unwrap();
    let (got, error) = pull(&nodes, 1, &bytes).await;
    assert!(error.is_none() && got == bytes, "{error:?}");
    assert_eq!(nodes.holders(&digest), [2], "the damaged copy is out of the way");
}

#[tokio::test(flavor = "multi_thread")]
async fn relayed_bytes_that_are_not_the_blob_never_end_cleanly() {
    let nodes = Nodes::new(3).await;
    let bytes = content(5, MIB + 1);
    nodes.place(&bytes, &[2, 3]).await;
    nodes.net.lies(2);
    nodes.net.lies(3);
    let (got, error) = pull(&nodes, 1, &bytes).await;
    assert!(error.is_some() && got.len() < bytes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_nobody_gives_is_not_here_and_in_time() {
    let nodes = Nodes::new(3).await;
    let bytes = content(6, 1000);
    let digest = nodes.place(&bytes, &[2, 3]).await;
    nodes.net.down(2);
    nodes.net.down(3);
    let opened = soon(nodes.blobs(1).open(&digest, 1000, 0..1000)).await;
    assert!(matches!(opened, Err(ReadBlobError::NotHere)));
    nodes.net.up(3);
    assert_eq!(pull(&nodes, 1, &bytes).await.0, bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_empty_blob_is_read_like_any_other() {
    let nodes = Nodes::new(3).await;
    let bytes = content(7, 0);
    nodes.place(&bytes, &[2, 3]).await;
    assert_eq!(pull(&nodes, 1, &bytes).await.0, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_blob_is_fetched_once_and_then_given_from_memory() {
    let nodes = Nodes::new(3).await;
    let bytes = content(9, 20_000);
    let digest = nodes.place(&bytes, &[2, 3]).await;
    let part = || async { read(soon(nodes.blobs(1).open(&digest, 20_000, 50..60)).await.unwrap()).await.0 };
    assert_eq!(part().await, &bytes[50..60]);
    assert_eq!(nodes.nodes[&id(1)].store.kept(&digest), None, "a part cannot be hashed");
    assert_eq!(pull(&nodes, 1, &bytes).await.0, bytes);
    nodes.net.down(2);
    nodes.net.down(3);
    assert_eq!(pull(&nodes, 1, &bytes).await.0, bytes);
    assert_eq!(part().await, &bytes[50..60]);
    assert_eq!(nodes.nodes[&id(1)].store.has(&digest), None, "not on disk");
    let other = soon(nodes.blobs(1).open(&digest, 19_999, 0..19_999)).await;
    assert!(matches!(other, Err(ReadBlobError::NotHere)), "of another size");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_copy_that_is_damaged_is_followed_by_another_and_not_kept() {
    let nodes = Nodes::new(3).await;
    let bytes = content(10, 20_000);
    let digest = nodes.place(&bytes, &[1, 2]).await;
    let file = nodes.file(1, &digest);
    let mut wrong = std::fs::read(&file).unwrap();
    wrong[5] ^= 0x40;
    std::fs::write(&file, wrong).unwrap();
    assert_eq!(pull(&nodes, 1, &bytes).await.0, bytes);
    assert_eq!(nodes.holders(&digest), [2], "the damaged copy is out of the way");
    nodes.net.lies(2);
    assert_eq!(pull(&nodes, 1, &bytes).await.0, bytes, "from memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_are_asked_not_assumed() {
    let nodes = Nodes::new(4).await;
    let digest = nodes.place(&content(8, 1000), &[2, 3]).await;
    nodes.net.down(3);
    let (holders, silent) = soon(nodes.blobs(1).locate(&digest)).await.unwrap();
    assert_eq!(holders.iter().map(|holder| holder.node.0).collect::<Vec<_>>(), [2]);
    assert_eq!(silent, [id(3)]);
}
