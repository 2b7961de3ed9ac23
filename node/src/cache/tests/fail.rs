//! Upstreams that break off and lie, names that have nothing, and nodes that die.

use trow_api::pull::PullError;

use super::cluster::*;
use crate::replicated::tests::harness::{content, read, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_body_is_gone_on_with_at_the_byte_reached() {
    let cluster = Cluster::new(2).await;
    let bytes = content(10, 3 * MIB);
    let digest = cluster.list(&bytes, bytes.len());
    cluster.upstream.has(&bytes, |given| given.cuts = [MIB, 100_000, MIB].into());
    for node in [1, 2] {
        let (got, error) = read(cluster.open(node, &digest).await.unwrap()).await;
        assert!(error.is_none() && got == bytes, "{error:?} after {} bytes", got.len());
    }
    let gets = cluster.upstream.gets(&bytes);
    assert!(gets.len() == 4 && gets[0] == 0 && gets[1] > 0 && gets.is_sorted(), "{gets:?}");
    cluster.until_held_by(&digest, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_ranges_is_read_anew_and_no_byte_given_twice() {
    let cluster = Cluster::new(2).await;
    let bytes = content(11, 2 * MIB);
    let digest = cluster.list(&bytes, bytes.len());
    cluster.upstream.has(&bytes, |given| {
        given.ranges = false;
        given.length = None;
        given.cuts = [MIB].into();
    });
    let (got, error) = read(cluster.open(1, &digest).await.unwrap()).await;
    assert!(error.is_none() && got == bytes, "{error:?} after {} bytes", got.len());
    assert_eq!(cluster.upstream.gets(&bytes).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_gives_nothing_more_is_left_and_the_bodies_break_off() {
    let cluster = Cluster::new(3).await;
    let bytes = content(12, 2 * MIB);
    let digest = cluster.list(&bytes, bytes.len());
    let mut cuts = std::collections::VecDeque::from([MIB]);
    cuts.extend([0; 40]);
    cluster.upstream.has(&bytes, |given| given.cuts = cuts);
    let pulls = (1..=3).map(|node| {
        let cluster = &cluster;
        async move { read(cluster.open(node, &digest).await.unwrap()).await }
    });
    for (got, error) in futures::future::join_all(pulls).await {
        assert!(error.is_some() && got.len() < bytes.len(), "it ended cleanly after {} bytes", got.len());
    }
    let gets = cluster.upstream.gets(&bytes).len();
    assert!((2..=10).contains(&gets), "{gets} GETs");
    assert!(cluster.nodes.holders(&digest).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_never_end_cleanly_and_are_not_kept() {
    let cluster = Cluster::new(3).await;
    for (seed, len) in [(13, 2 * MIB), (14, 10_000)] {
        let bytes = content(seed, len);
        let digest = cluster.list(&bytes, len);
        let mut wrong = bytes.to_vec();
        wrong[len - 1] ^= 1;
        cluster.upstream.has(&bytes, |given| given.bytes = wrong.into());
        for node in 1..=3 {
            match cluster.open(node, &digest).await {
                Ok(body) => {
                    let (got, error) = read(body).await;
                    assert!(error.is_some() && got.len() < len, "{len} bytes through node {node}");
                }
                // What is told to all others that ask within the next seconds.
                Err(error) => assert!(matches!(error, PullError::Bad(_)), "{error:?}"),
            }
        }
        assert!(cluster.nodes.holders(&digest).is_empty());
        assert_eq!(cluster.upstream.gets(&bytes).len(), 1, "a crowd that comes back does not ask again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sizes_than_listed_are_refused() {
    let cluster = Cluster::new(2).await;
    // The manifest says less than there is, and the upstream says how much that is.
    let said = content(15, MIB);
    cluster.upstream.has(&said, |_| ());
    let digest = cluster.list(&said, MIB - 1);
    for node in [1, 2] {
        let refused = cluster.open(node, &digest).await.err();
        assert!(matches!(refused, Some(PullError::Bad(_))), "{refused:?}");
    }
    // It does not say, and gives more, or less.
    for (seed, listed) in [(16, MIB - 100), (17, MIB + 100)] {
        let bytes = content(seed, MIB);
        cluster.upstream.has(&bytes, |given| given.length = None);
        let digest = cluster.list(&bytes, listed);
        if let Ok(body) = cluster.open(1, &digest).await {
            let (got, error) = read(body).await;
            assert!(error.is_some() && got.len() < listed, "{error:?} after {} bytes", got.len());
        }
        assert!(cluster.nodes.holders(&digest).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_the_home_in_the_middle_is_survived_by_those_who_wait_elsewhere() {
    let cluster = Cluster::new(4).await;
    let bytes = content(18, 6 * MIB);
    let gate = cluster.upstream.has(&bytes, |_| ());
    let digest = cluster.list(&bytes, bytes.len());
    gate.send(3 * MIB).unwrap();
    let (home, others) = cluster.home(&digest);
    let mut bodies = vec![];
    for node in &others {
        let mut body = cluster.open(*node, &digest).await.unwrap();
        let got = take(&mut body, 2 * MIB).await;
        bodies.push((body, got));
    }
    let part = cluster.part(others[0], &digest, 1_000_000..5_000_000).await;
    cluster.nodes.net.down(home);
    gate.send(usize::MAX).unwrap();
    for (body, mut got) in bodies {
        let (rest, error) = read(body).await;
        got.extend(rest);
        assert!(error.is_none() && got == bytes, "{error:?} after {} bytes", got.len());
    }
    assert!(read(part).await.0 == bytes[1_000_000..5_000_000]);
    assert_eq!(cluster.upstream.gets(&bytes), [0, 0], "the next home fetched it once for all of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_gives_wrong_bytes_is_found_out() {
    let cluster = Cluster::new(2).await;
    let bytes = content(19, MIB);
    let digest = cluster.has(&bytes);
    let (home, others) = cluster.home(&digest);
    cluster.nodes.net.lies(home);
    let (got, error) = read(cluster.open(others[0], &digest).await.unwrap()).await;
    assert!(error.is_some() && got.len() < bytes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_here_are_given_only_under_a_name_that_has_them() {
    let cluster = Cluster::new(2).await;
    let bytes = content(20, MIB);
    let digest = cluster.list(&bytes, bytes.len());
    cluster.upstream.has(&bytes, |given| given.repos = vec!["app", "too"]);
    for node in [1, 2] {
        assert_eq!(read(cluster.open(node, &digest).await.unwrap()).await.0, bytes);
    }
    let all = |size| Some(0..size);
    for node in [1, 2] {
        let cache = &cluster.caches[&node];
        // No manifest of it lists the blob, and the upstream does not have it there.
        let refused = soon(cache.blob(&name("other"), &digest, &all)).await.err();
        assert!(matches!(refused, Some(PullError::NotFound)), "{refused:?}");
        assert!(matches!(soon(cache.blob_size(&name("other"), &digest)).await, Err(PullError::NotFound)));
        // No manifest lists it, but the upstream says that it has it there.
        let given = soon(cache.blob(&name("too"), &digest, &all)).await.unwrap();
        assert_eq!(read(given.body).await.0, bytes);
    }
    assert_eq!(cluster.upstream.gets(&bytes), [0], "and nothing is fetched again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_gives_nothing_to_the_readers_of_another() {
    let cluster = Cluster::new(2).await;
    let (bytes, wrong) = (content(30, 3 * MIB), content(31, 3 * MIB));
    let digest = cluster.has(&bytes);
    // It says that it has the blob too, sends something else, and stops in the middle.
    cluster.list_as(other("app"), &bytes, bytes.len());
    let gate = cluster.other.has(&bytes, |given| given.bytes = wrong.clone());
    gate.send(2 * MIB).unwrap();
    let open = |node: u64| {
        let cache = cluster.caches[&node].clone();
        async move { cache.blob(&other("app"), &digest, &|size| Some(0..size)).await.unwrap().body }
    };
    let (mut here, mut there) = (soon(open(1)).await, soon(open(2)).await);
    for body in [&mut here, &mut there] {
        assert_eq!(take(body, 100_000).await[..100_000], wrong[..100_000]);
    }
    for node in [1, 2] {
        let (got, error) = read(cluster.part(node, &digest, 5..100_000).await).await;
        assert!(error.is_none() && got == bytes[5..100_000], "through node {node}: {error:?}");
        let (got, error) = read(cluster.open(node, &digest).await.unwrap()).await;
        assert!(error.is_none() && got == bytes, "through node {node}: {error:?}");
    }
    assert_eq!(cluster.upstream.gets(&bytes), [0]);
    gate.send(usize::MAX).unwrap();
    for body in [here, there] {
        let (got, error) = read(body).await;
        assert!(error.is_some() && got.len() < bytes.len(), "wrong bytes ended cleanly");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_name_cannot_have_is_fetched_under_the_own_one() {
    let cluster = Cluster::new(2).await;
    let bytes = content(21, MIB);
    let digest = cluster.list(&bytes, bytes.len());
    cluster.upstream.has(&bytes, |given| given.repos = vec!["too"]);
    // A manifest of `app` lists it, where it is not; the failure is remembered for that name only.
    let refused = cluster.open(1, &digest).await.err();
    assert!(matches!(refused, Some(PullError::NotFound)), "{refused:?}");
    let given = soon(cluster.caches[&2].blob(&name("too"), &digest, &|size| Some(0..size))).await.unwrap();
    assert_eq!(read(given.body).await.0, bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_nobody_is_asked_and_what_is_here_is_given() {
    let cluster = Cluster::with(2, true).await;
    let (here, away) = (content(22, MIB), content(23, MIB));
    let (here, away) = (cluster.has(&here), cluster.has(&away));
    let mut staged = cluster.nodes.store(1).stage(None).await.unwrap();
    staged.write(content(22, MIB)).await.unwrap();
    staged.came_by(Some(name("app").local().clone()));
    staged.keep(&here).await.unwrap();
    for node in [1, 2] {
        assert_eq!(read(cluster.open(node, &here).await.unwrap()).await.0, content(22, MIB));
        let refused = cluster.open(node, &away).await.err();
        assert!(matches!(refused, Some(PullError::Offline)), "{refused:?}");
        let unlisted = soon(cluster.caches[&node].blob_size(&name("other"), &here)).await;
        assert!(matches!(unlisted, Err(PullError::Offline)), "{unlisted:?}");
    }
    assert!(cluster.upstream.gets(&content(23, MIB)).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_outside_and_blobs_of_nothing() {
    let cluster = Cluster::new(2).await;
    let bytes = content(24, 1000);
    let digest = cluster.has(&bytes);
    let outside = soon(cluster.caches[&1].blob(&name("app"), &digest, &|_| None)).await.err();
    assert!(matches!(outside, Some(PullError::Range { size: 1000 })), "{outside:?}");
    let nothing = cluster.has(&bytes::Bytes::new());
    for node in [1, 2, 1, 2] {
        assert_eq!(read(cluster.open(node, &digest).await.unwrap()).await.0, bytes);
        let (got, error) = read(cluster.open(node, &nothing).await.unwrap()).await;
        assert!(got.is_empty() && error.is_none(), "{error:?}");
    }
}
