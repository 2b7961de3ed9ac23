//! Blobs that pass because there is no room to keep them.

use super::cluster::*;
use crate::replicated::tests::harness::{content, read};

async fn full(count: u64) -> Cluster {
    let cluster = Cluster::new(count).await;
    for node in 1..=count {
        cluster.nodes.store(node).set_full(true);
    }
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_a_blob_passes_to_all_who_read_and_nothing_is_kept() {
    let cluster = full(3).await;
    let bytes = content(30, 12 * MIB);
    let gate = cluster.upstream.has(&bytes, |_| ());
    let digest = cluster.list(&bytes, bytes.len());
    gate.send(2 * MIB).unwrap();
    let mut bodies = vec![];
    for node in (1..=3).chain(1..=3) {
        let mut body = cluster.open(node, &digest).await.unwrap();
        let got = take(&mut body, MIB).await;
        bodies.push((body, got));
    }
    let pulls = bodies.into_iter().map(|(body, mut got)| async move {
        let (rest, error) = read(body).await;
        got.extend(rest);
        (got, error)
    });
    let (all, _) = tokio::join!(futures::future::join_all(pulls), async { gate.send(usize::MAX) });
    for (got, error) in all {
        assert!(error.is_none() && got == bytes, "{error:?} after {} bytes", got.len());
    }
    assert_eq!(cluster.upstream.gets(&bytes), [0], "one fetch for all that keep up");
    assert!(cluster.nodes.holders(&digest).is_empty());
    assert_eq!(cluster.caches[&cluster.home(&digest).0].stats().fills[1], ("passed", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_in_the_middle_breaks_no_pull() {
    let cluster = Cluster::new(2).await;
    let bytes = content(31, 8 * MIB);
    let gate = cluster.upstream.has(&bytes, |_| ());
    let digest = cluster.list(&bytes, bytes.len());
    gate.send(3 * MIB).unwrap();
    let (home, others) = cluster.home(&digest);
    let mut bodies = vec![];
    for node in [home, others[0]] {
        let mut body = cluster.open(node, &digest).await.unwrap();
        let got = take(&mut body, MIB).await;
        bodies.push((body, got));
    }
    cluster.nodes.store(home).set_full(true);
    gate.send(usize::MAX).unwrap();
    let pulls = bodies.into_iter().map(|(body, mut got)| async move {
        let (rest, error) = read(body).await;
        got.extend(rest);
        (got, error)
    });
    for (got, error) in futures::future::join_all(pulls).await {
        assert!(error.is_none() && got == bytes, "{error:?} after {} bytes", got.len());
    }
    assert!(cluster.nodes.holders(&digest).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_or_wants_what_is_far_ahead_reads_for_itself() {
    let cluster = full(1).await;
    let bytes = content(32, 14 * MIB);
    let gate = cluster.upstream.has(&bytes, |_| ());
    let digest = cluster.list(&bytes, bytes.len());
    gate.send(7 * MIB).unwrap();
    let mut first = cluster.open(1, &digest).await.unwrap();
    let got = take(&mut first, 6 * MIB).await;
    // The beginning has passed, the end is not there yet.
    let late = cluster.open(1, &digest).await.unwrap();
    let ahead = cluster.part(1, &digest, 14_000_000..14_500_000).await;
    gate.send(usize::MAX).unwrap();
    let (first, late, ahead) = tokio::join!(read(first), read(late), read(ahead));
    assert!([got, first.0].concat() == bytes && first.1.is_none(), "{:?}", first.1);
    assert!(late.0 == bytes && late.1.is_none(), "{:?} after {} bytes", late.1, late.0.len());
    assert!(ahead.0 == bytes[14_000_000..14_500_000]);
    assert_eq!(cluster.upstream.gets(&bytes), [0, 0, 14_000_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_that_pass_do_not_end_cleanly() {
    let cluster = full(2).await;
    let bytes = content(33, 2 * MIB);
    let digest = cluster.list(&bytes, bytes.len());
    let mut wrong = bytes.to_vec();
    wrong[5] ^= 1;
    cluster.upstream.has(&bytes, |given| given.bytes = wrong.into());
    for node in [1, 2] {
        if let Ok(body) = cluster.open(node, &digest).await {
            let (got, error) = read(body).await;
            assert!(error.is_some() && got.len() < bytes.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_holds_the_others_back_for_a_while_only() {
    let cluster = full(1).await;
    let bytes = content(34, 12 * MIB);
    let digest = cluster.has(&bytes);
    let mut slow = cluster.open(1, &digest).await.unwrap();
    let mut got = take(&mut slow, 1).await;
    let (fast, error) = read(cluster.open(1, &digest).await.unwrap()).await;
    assert!(error.is_none() && fast == bytes, "{error:?} after {} bytes", fast.len());
    // What it wanted has passed; it goes on by itself.
    got.extend(read(slow).await.0);
    assert!(got == bytes, "{} bytes", got.len());
    assert_eq!(cluster.upstream.gets(&bytes).len(), 2);
}
