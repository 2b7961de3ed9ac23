//! H2: what may be acknowledged while an upload's home changes, and what a client can still do
//! with the `Location` that it has.

use std::time::{Duration, Instant};

use trow_api::UploadToken;
use trow_api::blobs::{Blobs as _, UploadError};
#[cfg(feature = "planted")]
use trow_raft::Variant;
use trow_raft::{Digest, Outcome, Planted};

use super::harness::*;
use super::net::peers;
use crate::peer_blobs::Upload;

const MIB: usize = 1 << 20;

/// An upload of which node 1 is the home, with its first MiB written.
struct Begun {
    nodes: Nodes,
    bytes: bytes::Bytes,
    token: UploadToken,
    mirror: u64,
    other: u64,
}

impl Begun {
    async fn new(seed: u64, planted: Planted) -> Begun {
        let nodes = Nodes::with(3, LIMITS, planted).await;
        let bytes = content(seed, 2 * MIB);
        let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
        let first = body(&bytes.slice(..MIB));
        let (token, _) = nodes.blobs(1).append(&repo(), &token, None, first).await.unwrap();
        let mirror = nodes.where_is(&token)[1];
        Begun { nodes, bytes, token, mirror, other: 5 - mirror }
    }

    fn rest(&self) -> trow_api::blobs::ByteStream {
        body(&self.bytes.slice(MIB..))
    }

    fn digest(&self) -> Digest {
        Digest::sha256(&self.bytes)
    }

    /// Files in the node's staging directory.
    fn staged(&self, node: u64) -> usize {
        std::fs::read_dir(self.nodes.dir(node).join("staging")).unwrap().count()
    }
}

/// A home is paused and taken over; it wakes up and gets a chunk under its own ticket. If it says
/// that the chunk is taken, its own loss must not lose it.
async fn a_paused_home_wakes(planted: Planted) -> Result<(), String> {
    let begun = Begun::new(40, planted).await;
    let Begun { nodes, token, other, .. } = &begun;
    nodes.net.hang(1);
    soon(nodes.blobs(*other).progress(&repo(), token)).await.map_err(|error| error.to_string())?;
    nodes.net.up(1);
    let late = soon(nodes.blobs(1).append(&repo(), token, None, begun.rest())).await;
    let Ok((token, told)) = late else { return Ok(()) };
    nodes.net.down(1);
    match soon(nodes.blobs(*other).progress(&repo(), &token)).await {
        Ok((_, have)) if have >= told => Ok(()),
        lost => Err(format!("a home of before acknowledged {told} bytes; without it: {lost:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waking_home_loses_no_acknowledged_chunk() {
    a_paused_home_wakes(Planted::NONE).await.unwrap();
}

#[cfg(feature = "planted")]
#[tokio::test(flavor = "multi_thread")]
async fn a_waking_home_that_acknowledges_is_caught() {
    a_paused_home_wakes(Planted::new(Variant::H2WakingHome)).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waking_home_is_believed_in_nothing() {
    let Begun { nodes, token, other, .. } = Begun::new(41, Planted::NONE).await;
    for request in ["GET", "PATCH", "PATCH of nothing", "DELETE"] {
        // Each finds a home that does not know yet.
        let (token, _) = match request {
            "GET" => (token.clone(), 0),
            _ => {
                let fresh = nodes.blobs(1).start(&repo(), None).await.unwrap();
                nodes.blobs(1).append(&repo(), &fresh, None, body(&content(42, 10))).await.unwrap()
            }
        };
        let through = if nodes.where_is(&token)[1] == other { 5 - other } else { other };
        nodes.net.hang(1);
        let (newer, have) = soon(nodes.blobs(through).progress(&repo(), &token)).await.unwrap();
        nodes.net.up(1);
        let home = nodes.blobs(1);
        let late = match request {
            "GET" => soon(home.progress(&repo(), &token)).await.map(drop),
            "PATCH" => soon(home.append(&repo(), &token, None, body(&content(43, 10)))).await.map(drop),
            "DELETE" => soon(home.cancel(&repo(), &token)).await,
            _ => soon(home.append(&repo(), &token, None, empty())).await.map(drop),
        };
        assert!(matches!(late, Err(UploadError::Unknown)), "{request}: {late:?}");
        // Nor is the old ticket good anywhere else, now that it is known to be old.
        for node in 1..=3 {
            let late = soon(nodes.blobs(node).progress(&repo(), &token)).await;
            assert!(matches!(late, Err(UploadError::Unknown)), "{request}, then GET: {late:?}");
        }
        assert_eq!(soon(nodes.blobs(1).progress(&repo(), &newer)).await.unwrap().1, have, "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_whose_reply_was_lost_loses_no_upload() {
    let begun = Begun::new(44, Planted::NONE).await;
    let Begun { nodes, token, other, .. } = &begun;
    nodes.net.down(1);
    // Twice: nothing tells whether the client heard the first answer.
    soon(nodes.blobs(*other).progress(&repo(), token)).await.unwrap();
    let (newer, have) = soon(nodes.blobs(*other).progress(&repo(), token)).await.unwrap();
    assert_eq!(have, MIB as u64);
    let (newest, _) =
        soon(nodes.blobs(*other).append(&repo(), &newer, Some(have), begun.rest())).await.unwrap();
    // By now it has.
    let late = soon(nodes.blobs(*other).progress(&repo(), token)).await;
    assert!(matches!(late, Err(UploadError::Unknown)), "{late:?}");
    let digest = begun.digest();
    soon(nodes.blobs(*other).finish(&repo(), &newest, &digest, None, empty(), "test")).await.unwrap();
    assert!(nodes.is_linked(&digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_without_a_mirror_is_not_the_end() {
    let begun = Begun::new(45, Planted::NONE).await;
    let Begun { nodes, token, mirror, other, .. } = &begun;
    nodes.net.down(1);
    nodes.net.down(*other);
    let alone = soon(nodes.blobs(*mirror).append(&repo(), token, None, begun.rest())).await;
    assert!(matches!(alone, Err(UploadError::Unavailable(_))), "{alone:?}");
    nodes.net.up(*other);
    let (token, have) = soon(nodes.blobs(*mirror).progress(&repo(), token)).await.unwrap();
    assert_eq!(have, MIB as u64);
    let digest = begun.digest();
    soon(nodes.blobs(*other).finish(&repo(), &token, &digest, None, begun.rest(), "test")).await.unwrap();
    assert!(nodes.is_linked(&digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_out_of_order_is_told_the_new_location_and_what_two_nodes_have() {
    let begun = Begun::new(46, Planted::NONE).await;
    let Begun { nodes, token, mirror, other, .. } = &begun;
    nodes.net.down(1);
    let again = soon(nodes.blobs(*other).append(&repo(), token, Some(0), body(&begun.bytes))).await;
    let Err(UploadError::OutOfOrder { have, token: Some(newer) }) = again else {
        panic!("{again:?}");
    };
    assert_eq!(have, MIB as u64);
    assert_eq!(nodes.where_is(&newer), [*mirror, *other]);
    // The client may have forgotten what it was told is there.
    nodes.net.down(*mirror);
    nodes.net.up(1);
    let (newest, have) = soon(nodes.blobs(*other).progress(&repo(), &newer)).await.unwrap();
    assert_eq!(have, MIB as u64);
    let digest = begun.digest();
    soon(nodes.blobs(1).finish(&repo(), &newest, &digest, None, begun.rest(), "test")).await.unwrap();
    assert!(nodes.is_linked(&digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_request_is_repeated_through_a_home_that_slept_through_it() {
    for with_chunk in [false, true] {
        let begun = Begun::new(47, Planted::NONE).await;
        let Begun { nodes, token, other, .. } = &begun;
        let digest = begun.digest();
        nodes.net.hang(1);
        soon(nodes.blobs(*other).finish(&repo(), token, &digest, None, begun.rest(), "test")).await.unwrap();
        nodes.net.up(1);
        // What the home has is not the whole, which is no reason to call the digest wrong.
        let chunk = if with_chunk { begun.rest() } else { empty() };
        let again = soon(nodes.blobs(1).finish(&repo(), token, &digest, None, chunk, "test")).await;
        assert_eq!(again.unwrap().outcome, Outcome::Done);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_request_is_answered_though_nobody_remembers_the_upload() {
    let begun = Begun::new(48, Planted::NONE).await;
    let Begun { nodes, token, mirror, other, .. } = &begun;
    let digest = begun.digest();
    soon(nodes.blobs(*other).finish(&repo(), token, &digest, None, begun.rest(), "test")).await.unwrap();
    // As after a restart.
    let upload = Upload { repo: &repo(), ticket: token.state() };
    peers(&nodes.net, id(1)).mirror_drop(id(*mirror), upload).await.unwrap();
    nodes.net.down(1);
    let again = soon(nodes.blobs(*other).finish(&repo(), token, &digest, None, empty(), "test")).await;
    assert_eq!(again.unwrap().outcome, Outcome::Done);
    let wrong = Digest::sha256(b"never pushed");
    let never = soon(nodes.blobs(*other).finish(&repo(), token, &wrong, None, empty(), "test")).await;
    assert!(matches!(never, Err(UploadError::Unavailable(_))), "{never:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_left_behind_lets_go_of_the_bytes() {
    let begun = Begun::new(49, Planted::NONE).await;
    let Begun { nodes, token, other, .. } = &begun;
    nodes.net.hang(1);
    let (token, _) = soon(nodes.blobs(*other).append(&repo(), token, None, begun.rest())).await.unwrap();
    nodes.net.up(1);
    assert_eq!(begun.staged(1), 1, "the home of before does not know yet");
    let digest = begun.digest();
    soon(nodes.blobs(*other).finish(&repo(), &token, &digest, None, empty(), "test")).await.unwrap();
    let emptied = async {
        while (1..=3).any(|node| begun.staged(node) > 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(emptied).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_is_waited_for_two_seconds() {
    const SOON: Duration = Duration::from_millis(3200);
    let begun = Begun::new(50, Planted::NONE).await;
    let Begun { nodes, token, mirror, other, .. } = &begun;
    nodes.net.hang(1);
    let began = Instant::now();
    let rest = begun.rest();
    let (token, _) = soon(nodes.blobs(*other).append(&repo(), token, None, rest)).await.unwrap();
    assert!(began.elapsed() < SOON, "the home: {:?}", began.elapsed());
    assert_eq!(nodes.where_is(&token), [*mirror, *other]);
    nodes.net.up(1);
    nodes.net.hang(*other);
    let began = Instant::now();
    let more = body(&content(51, 100));
    let (token, _) = soon(nodes.blobs(*mirror).append(&repo(), &token, None, more)).await.unwrap();
    assert!(began.elapsed() < SOON, "the mirror: {:?}", began.elapsed());
    assert_eq!(nodes.where_is(&token), [*mirror, 1]);
}
