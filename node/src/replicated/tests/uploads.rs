//! Uploads whose requests go to different nodes while nodes go away.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use trow_api::blobs::{Blobs as _, ByteStream, UploadError};
use trow_raft::{Command, Digest, MemberState, Outcome};

use super::super::Limits;
use super::harness::*;

const MIB: usize = 1 << 20;

/// A body that waits for `gate` after its first `at` bytes.
pub(super) fn gated(bytes: &Bytes, at: usize, gate: tokio::sync::oneshot::Receiver<()>) -> ByteStream {
    let (head, tail) = (bytes.slice(..at), bytes.slice(at..));
    let wait = stream::once(async move {
        let _ = gate.await;
        Ok(Bytes::new())
    });
    Box::pin(body(&head).chain(wait).chain(body(&tail)))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_may_go_to_another_node() {
    let nodes = Nodes::new(5).await;
    let bytes = content(10, 3 * MIB + 7);
    let digest = Digest::sha256(&bytes);
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    let (head, tail) = (bytes.slice(..MIB), bytes.slice(MIB..));
    let (token, length) = nodes.blobs(2).append(&repo(), &token, Some(0), body(&head)).await.unwrap();
    assert_eq!(length, MIB as u64);
    let (token, length) = nodes.blobs(3).append(&repo(), &token, None, body(&tail)).await.unwrap();
    assert_eq!(length, bytes.len() as u64);
    let (token, length) = nodes.blobs(4).progress(&repo(), &token).await.unwrap();
    assert_eq!(length, bytes.len() as u64);
    let at = nodes.where_is(&token);
    let applied = nodes.blobs(5).finish(&repo(), &token, &digest, None, empty(), "test").await.unwrap();
    assert_eq!(applied.outcome, Outcome::Done);
    assert!(nodes.is_linked(&digest));
    let mut at = at;
    at.sort_unstable();
    assert_eq!(nodes.holders(&digest), at, "the home and its mirror hold it, nobody else");
    // Closed is closed, and the last request may come again.
    for node in 1..=5 {
        let blobs = nodes.blobs(node);
        let again = blobs.finish(&repo(), &token, &digest, None, empty(), "test").await.unwrap();
        assert_eq!(again.outcome, Outcome::Done);
        let late = blobs.append(&repo(), &token, None, body(&bytes)).await;
        assert!(matches!(late, Err(UploadError::Unknown)), "{late:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_pushes_through_a_single_node() {
    let nodes = Nodes::new(1).await;
    let bytes = content(11, 100);
    let digest = nodes.push(1, &bytes).await.unwrap();
    assert!(nodes.is_linked(&digest));
    let digest = nodes.push(1, &Bytes::new()).await.unwrap();
    assert!(nodes.is_linked(&digest), "the empty blob too");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_home_dies_between_chunks_and_a_mirror_goes_on() {
    let nodes = Nodes::new(3).await;
    let bytes = content(12, 2 * MIB);
    let digest = Digest::sha256(&bytes);
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    let (token, _) = nodes.blobs(1).append(&repo(), &token, None, body(&bytes.slice(..MIB))).await.unwrap();
    nodes.net.down(1);
    let (newer, length) =
        soon(nodes.blobs(2).append(&repo(), &token, Some(MIB as u64), body(&bytes.slice(MIB..))))
            .await
            .unwrap();
    assert_eq!(length, bytes.len() as u64);
    assert!(!nodes.where_is(&newer).contains(&1));
    // The token of before the takeover is no good for more bytes, but for the last request it is.
    let stale = soon(nodes.blobs(3).append(&repo(), &token, Some(MIB as u64), body(&bytes))).await;
    assert!(matches!(stale, Err(UploadError::Unknown | UploadError::OutOfOrder { .. })), "{stale:?}");
    soon(nodes.blobs(3).finish(&repo(), &newer, &digest, None, empty(), "test")).await.unwrap();
    assert_eq!(nodes.holders(&digest), [2, 3]);
    soon(nodes.blobs(2).finish(&repo(), &token, &digest, None, empty(), "test")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_home_dies_before_the_last_request_and_nothing_is_lost() {
    let nodes = Nodes::new(3).await;
    let bytes = content(13, MIB);
    let digest = Digest::sha256(&bytes);
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    let (token, _) = nodes.blobs(2).append(&repo(), &token, None, body(&bytes)).await.unwrap();
    nodes.net.hang(1);
    soon(nodes.blobs(3).finish(&repo(), &token, &digest, None, empty(), "test")).await.unwrap();
    assert_eq!(nodes.holders(&digest), [2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_home_dies_in_mid_body_and_the_last_request_may_come_again() {
    let nodes = Nodes::new(3).await;
    let bytes = content(14, 2 * MIB);
    let digest = Digest::sha256(&bytes);
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    let (token, _) = nodes.blobs(2).append(&repo(), &token, None, body(&bytes.slice(..MIB))).await.unwrap();
    let (open, gate) = tokio::sync::oneshot::channel();
    let tail = bytes.slice(MIB..);
    let blobs = nodes.blobs(2).clone();
    let (first, chunk) = (token.clone(), gated(&tail, MIB / 2, gate));
    let put = tokio::spawn(async move { blobs.finish(&repo(), &first, &digest, None, chunk, "test").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    nodes.net.down(1);
    drop(open);
    let lost = soon(put).await.unwrap();
    assert!(matches!(lost, Err(UploadError::Unavailable(_))), "never a wrong digest: {lost:?}");
    soon(nodes.blobs(3).finish(&repo(), &token, &digest, None, body(&tail), "test")).await.unwrap();
    assert!(nodes.is_linked(&digest));
    soon(nodes.blobs(2).finish(&repo(), &token, &digest, None, empty(), "test")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_dies_in_mid_body_is_replaced_before_the_acknowledgement() {
    let nodes = Nodes::new(3).await;
    let bytes = content(15, 3 * MIB);
    let digest = Digest::sha256(&bytes);
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    let mirror = nodes.where_is(&token)[1];
    let other = 5 - mirror;
    let (open, gate) = tokio::sync::oneshot::channel();
    let (blobs, first, chunk) = (nodes.blobs(1).clone(), token.clone(), gated(&bytes, MIB, gate));
    let patch = tokio::spawn(async move { blobs.append(&repo(), &first, None, chunk).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    nodes.net.down(mirror);
    open.send(()).unwrap();
    let (token, length) = soon(patch).await.unwrap().unwrap();
    assert_eq!(length, bytes.len() as u64);
    assert_eq!(nodes.where_is(&token), [1, other]);
    // What was acknowledged is on both: the home may die now.
    nodes.net.down(1);
    nodes.net.up(mirror);
    soon(nodes.blobs(mirror).finish(&repo(), &token, &digest, None, empty(), "test")).await.unwrap();
    assert!(nodes.is_linked(&digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_was_taken_over_cannot_acknowledge() {
    let nodes = Nodes::new(3).await;
    let bytes = content(16, 2 * MIB);
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    let (token, _) = nodes.blobs(1).append(&repo(), &token, None, body(&bytes.slice(..MIB))).await.unwrap();
    let mirror = nodes.where_is(&token)[1];
    nodes.net.down(1);
    soon(nodes.blobs(mirror).progress(&repo(), &token)).await.unwrap();
    nodes.net.up(1);
    let late = soon(nodes.blobs(1).append(&repo(), &token, None, body(&bytes.slice(MIB..)))).await;
    assert!(matches!(late, Err(UploadError::Unknown)), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_body_is_kept_as_far_as_it_came_and_told() {
    let nodes = Nodes::new(3).await;
    let bytes = content(17, MIB);
    let digest = Digest::sha256(&bytes);
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    let broken =
        body(&bytes.slice(..400_000)).chain(stream::once(async { Err(std::io::Error::other("gone")) }));
    let lost = nodes.blobs(2).append(&repo(), &token, None, Box::pin(broken)).await;
    assert!(matches!(lost, Err(UploadError::ClientGone(_))), "{lost:?}");
    let wrong = nodes.blobs(3).append(&repo(), &token, Some(0), body(&bytes)).await;
    assert!(matches!(wrong, Err(UploadError::OutOfOrder { .. })), "{wrong:?}");
    let (token, have) = nodes.blobs(3).progress(&repo(), &token).await.unwrap();
    assert!(have <= 400_000);
    let rest = bytes.slice(have as usize..);
    let (token, _) = nodes.blobs(3).append(&repo(), &token, Some(have), body(&rest)).await.unwrap();
    nodes.blobs(3).finish(&repo(), &token, &digest, None, empty(), "test").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_content_ends_the_session() {
    let nodes = Nodes::new(3).await;
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    let digest = Digest::sha256(b"something else");
    let wrong = nodes.blobs(2).finish(&repo(), &token, &digest, None, body(&content(18, 100)), "test").await;
    assert!(matches!(wrong, Err(UploadError::DigestMismatch)), "{wrong:?}");
    let gone = nodes.blobs(1).progress(&repo(), &token).await;
    assert!(matches!(gone, Err(UploadError::Unknown)), "{gone:?}");
    assert_eq!(nodes.holders(&digest), [0u64; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_upload_frees_its_bytes_everywhere() {
    let limits = Limits { max_bytes: MIB as u64 + 10, ..LIMITS };
    let nodes = Nodes::with_limits(2, limits).await;
    let bytes = content(19, MIB);
    for _ in 0..3 {
        let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
        let (token, _) = nodes.blobs(2).append(&repo(), &token, None, body(&bytes)).await.unwrap();
        let more = nodes.blobs(2).append(&repo(), &token, None, body(&bytes)).await;
        assert!(matches!(more, Err(UploadError::TooMany)), "{more:?}");
        let (token, _) = nodes.blobs(2).progress(&repo(), &token).await.unwrap();
        nodes.blobs(2).cancel(&repo(), &token).await.unwrap();
        let gone = nodes.blobs(1).progress(&repo(), &token).await;
        assert!(matches!(gone, Err(UploadError::Unknown)), "{gone:?}");
        let emptied = async {
            while std::fs::read_dir(nodes.dir(2).join("staging")).unwrap().count() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon(emptied).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_members_for_a_quorum_is_unavailable_not_thin() {
    let nodes = Nodes::new(3).await;
    nodes.net.down(2);
    nodes.net.down(3);
    let alone = soon(nodes.blobs(1).start(&repo(), None)).await;
    assert!(matches!(alone, Err(UploadError::Unavailable(_))), "{alone:?}");
    nodes.net.up(3);
    let bytes = content(20, 1000);
    let digest = soon(nodes.push(1, &bytes)).await.unwrap();
    assert_eq!(nodes.holders(&digest), [1, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_went_stale_is_gathered_again() {
    let nodes = Nodes::new(3).await;
    let bytes = content(21, 1000);
    let digest = Digest::sha256(&bytes);
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    let mirror = nodes.where_is(&token)[1];
    // The state has a newer generation of the mirror than its store will vouch in: its word is
    // void until it fences again, so that the third member must hold the blob.
    let generation = trow_raft::Generation(nodes.store(mirror).generation().0 + 1);
    let fence = Command::FenceStore { node: id(mirror), generation };
    nodes.ledger.propose(fence);
    soon(nodes.blobs(1).finish(&repo(), &token, &digest, None, body(&bytes), "test")).await.unwrap();
    assert_eq!(nodes.holders(&digest), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_mirror_at_the_last_moment_is_made_up_for_by_another_member() {
    let nodes = Nodes::new(3).await;
    let bytes = content(22, 1000);
    let digest = Digest::sha256(&bytes);
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    let (token, _) = nodes.blobs(1).append(&repo(), &token, None, body(&bytes)).await.unwrap();
    let mirror = nodes.where_is(&token)[1];
    nodes.net.down(mirror);
    soon(nodes.blobs(1).finish(&repo(), &token, &digest, None, empty(), "test")).await.unwrap();
    assert_eq!(nodes.holders(&digest).len(), 2);
    assert!(!nodes.holders(&digest).contains(&mirror));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_word_does_not_count_lets_another_be_home() {
    let nodes = Nodes::new(3).await;
    let joining = trow_raft::Member {
        id: id(9),
        name: "n9".into(),
        state: MemberState::Joining,
        ..nodes.ledger.view().members().unwrap()[0].clone()
    };
    let command = Command::ChangeMember { member: joining };
    assert_eq!(nodes.ledger.propose(command).outcome, Outcome::Done);
    let stranger = nodes.stranger(9);
    let bytes = content(23, 1000);
    let digest = Digest::sha256(&bytes);
    let token = stranger.start(&repo(), None).await.unwrap();
    let (token, _) = stranger.append(&repo(), &token, None, body(&bytes)).await.unwrap();
    assert!(!nodes.where_is(&token).contains(&9));
    stranger.finish(&repo(), &token, &digest, None, empty(), "test").await.unwrap();
    assert_eq!(nodes.holders(&digest).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_for_its_repository_and_cluster_only() {
    let nodes = Nodes::new(1).await;
    let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
    let elsewhere = "library/other".parse().unwrap();
    assert!(matches!(nodes.blobs(1).progress(&elsewhere, &token).await, Err(UploadError::Unknown)));
    let mut state = token.state().to_owned();
    let middle = state.len() / 2;
    let other = if state[middle..].starts_with('A') { "B" } else { "A" };
    state.replace_range(middle..=middle, other);
    let forged = trow_api::UploadToken::new(token.id(), state).unwrap();
    assert!(matches!(nodes.blobs(1).progress(&repo(), &forged).await, Err(UploadError::Unknown)));
    let other = trow_api::UploadToken::new("0".repeat(32), token.state()).unwrap();
    assert!(matches!(nodes.blobs(1).progress(&repo(), &other).await, Err(UploadError::Unknown)));
}

#[tokio::test(flavor = "multi_thread")]
async fn sha512_is_verified_with_and_without_a_hint() {
    let nodes = Nodes::new(3).await;
    for hint in [None, Some(trow_raft::Algorithm::Sha512)] {
        let bytes = content(24 + u64::from(hint.is_some()), MIB);
        let digest = Digest::of(trow_raft::Algorithm::Sha512, &bytes);
        let token = nodes.blobs(1).start(&repo(), hint).await.unwrap();
        nodes.blobs(2).finish(&repo(), &token, &digest, None, body(&bytes), "test").await.unwrap();
        assert!(nodes.is_linked(&digest));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_dropped_in_mid_body_leaves_a_session_that_goes_on() {
    for through in [1, 2] {
        let nodes = Nodes::new(3).await;
        let bytes = content(26, 2 * MIB);
        let digest = Digest::sha256(&bytes);
        let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
        let (_open, gate) = tokio::sync::oneshot::channel();
        let (blobs, first) = (nodes.blobs(through).clone(), token.clone());
        let chunk = gated(&bytes, MIB + 123, gate);
        let patch = tokio::spawn(async move { blobs.append(&repo(), &first, None, chunk).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        patch.abort();
        let (token, have) = soon(nodes.blobs(3).progress(&repo(), &token)).await.unwrap();
        assert!(have <= MIB as u64 + 123);
        let rest = bytes.slice(have as usize..);
        soon(nodes.blobs(3).finish(&repo(), &token, &digest, None, body(&rest), "test")).await.unwrap();
        assert!(nodes.is_linked(&digest), "through node {through}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_request_that_is_dropped_may_come_again() {
    let nodes = Nodes::new(3).await;
    for wait in [0, 1, 2, 3, 5, 8, 13, 21] {
        let bytes = content(100 + wait, MIB);
        let digest = Digest::sha256(&bytes);
        let token = nodes.blobs(1).start(&repo(), None).await.unwrap();
        let (token, _) = nodes.blobs(2).append(&repo(), &token, None, body(&bytes)).await.unwrap();
        let (blobs, first) = (nodes.blobs(2).clone(), token.clone());
        let put =
            tokio::spawn(async move { blobs.finish(&repo(), &first, &digest, None, empty(), "test").await });
        tokio::time::sleep(Duration::from_millis(wait)).await;
        put.abort();
        soon(nodes.blobs(3).finish(&repo(), &token, &digest, None, empty(), "test")).await.unwrap();
        assert!(nodes.is_linked(&digest));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_without_room_are_told_as_such() {
    let nodes = Nodes::with_limits(3, Limits { max_sessions: 2, ..LIMITS }).await;
    // Two sessions at home on each of the others leave no room there, though there is here.
    let mut open = vec![];
    for node in [2, 3, 2, 3] {
        open.extend(nodes.blobs(node).start(&repo(), None).await);
    }
    let refused = nodes.blobs(1).start(&repo(), None).await;
    assert!(matches!(refused, Err(UploadError::TooMany)), "{refused:?}");
}
