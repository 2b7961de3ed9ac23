//! Blobs through real nodes that are killed, paused and damaged meanwhile.

#[path = "blobs/client.rs"]
mod client;
#[path = "program/dev.rs"]
mod dev;
#[path = "program/run.rs"]
mod run;

use std::time::{Duration, Instant};

use bytes::Bytes;
use client::Nodes;
use trow_raft::Digest;

const MIB: usize = 1 << 20;

/// Bytes that compress badly and differ by seed.
fn content(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut words = Vec::with_capacity(len + 8);
    while words.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        words.extend_from_slice(&state.to_le_bytes());
    }
    words.truncate(len);
    words.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_outlives_its_home_and_the_home_catches_up() {
    let mut nodes = Nodes::start(3);
    let bytes = content(1, 8 * MIB);
    let digest = Digest::sha256(&bytes);
    let begun = nodes.ask(1, "POST", "/v2/test/blobs/uploads/", "").await;
    let half = nodes.ask(2, "PATCH", &begun.location, bytes.slice(..3 * MIB)).await;
    assert_eq!((half.status, half.range.as_str()), (202, &*format!("0-{}", 3 * MIB - 1)));

    nodes.kill(1);
    let whole = nodes.ask(2, "PATCH", &half.location, bytes.slice(3 * MIB..)).await;
    assert_eq!((whole.status, whole.range.as_str()), (202, &*format!("0-{}", 8 * MIB - 1)), "{whole:?}");
    let put = format!("{}&digest={digest}", whole.location);
    for node in [3, 2, 3] {
        let done = nodes.ask(node, "PUT", &put, "").await;
        assert_eq!(done.status, 201, "through node {node}: {done:?}");
    }
    assert_eq!(nodes.ask(2, "PATCH", &whole.location, "more").await.status, 404, "it is closed");

    nodes.restart(1);
    nodes.settle(2);
    assert_eq!(nodes.holders(&digest), [1, 2, 3]);
    for node in 1..=3 {
        assert!(nodes.ask(node, "GET", &format!("/v2/test/blobs/{digest}"), "").await.body == bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_taken_over_from_a_home_that_is_paused() {
    let nodes = Nodes::start(3);
    let bytes = content(2, 2 * MIB);
    let digest = Digest::sha256(&bytes);
    let begun = nodes.ask(1, "POST", "/v2/test/blobs/uploads/", "").await;
    let half = nodes.ask(1, "PATCH", &begun.location, bytes.slice(..MIB)).await;
    nodes.pause(1);
    let began = Instant::now();
    let whole = nodes.ask(2, "PATCH", &half.location, bytes.slice(MIB..)).await;
    assert_eq!(whole.status, 202, "{whole:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    nodes.resume(1);
    // The home of before does not know that it is none; its word alone acknowledges nothing.
    let late = nodes.ask(1, "PATCH", &half.location, bytes.slice(MIB..)).await;
    assert!(matches!(late.status, 404 | 416), "{late:?}");
    let done = nodes.ask(1, "PUT", &format!("{}&digest={digest}", whole.location), "").await;
    assert_eq!(done.status, 201, "{done:?}");
    assert!(nodes.ask(1, "GET", &format!("/v2/test/blobs/{digest}"), "").await.body == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_goes_on_when_its_sources_are_killed_in_mid_body() {
    let nodes = Nodes::start(5);
    let bytes = content(3, 64 * MIB);
    let digest = nodes.push(1, &bytes).await;
    nodes.settle(1);
    let holders = nodes.holders(&digest);
    assert_eq!(holders.len(), 3);
    let stranger = (1..=5).find(|node| !holders.contains(node)).unwrap();
    let mut reply = nodes.get(stranger, &format!("/v2/test/blobs/{digest}")).await;
    let mut victims = holders[..2].iter().zip([8 * MIB, 32 * MIB]).peekable();
    let mut got = Vec::with_capacity(bytes.len());
    while let Some(chunk) = reply.chunk().await.unwrap() {
        got.extend_from_slice(&chunk);
        if let Some((victim, _)) = victims.next_if(|(_, at)| got.len() >= *at) {
            nodes.kill(*victim);
        }
    }
    assert!(got == bytes, "{} bytes came", got.len());
    assert_eq!(nodes.holders(&digest), holders, "a pull leaves no copy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_is_never_served_and_comes_back() {
    let nodes = Nodes::start(3);
    let bytes = content(4, 3 * MIB);
    let digest = nodes.push(1, &bytes).await;
    nodes.settle(1);
    let path = format!("/v2/test/blobs/{digest}");
    for what in ["flipped", "zeroed", "truncated"] {
        let file = nodes.file(2, &digest);
        let mut damaged = std::fs::read(&file).unwrap();
        match what {
            "flipped" => damaged[2 * MIB + 77] ^= 4,
            "zeroed" => damaged.fill(0),
            _ => damaged.truncate(MIB + 5),
        }
        std::fs::write(&file, damaged).unwrap();
        let reply = nodes.ask(2, "GET", &path, "").await;
        assert!(reply.status == 200 && reply.body == bytes, "{what}: {} bytes", reply.body.len());
        nodes.until(what, || std::fs::read(&file).is_ok_and(|healed| healed == bytes)).await;
    }
}
