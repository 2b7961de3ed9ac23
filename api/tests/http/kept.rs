//! Manifests that are answered from memory are what was acknowledged last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Method;

use super::support::*;

const TAGS: usize = 4;

/// An image of no layer that is unlike others.
fn numbered(number: usize) -> String {
    let config = trow_raft::Digest::sha256(b"{}");
    format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{IMAGE}\",\"config\":{{\"mediaType\":\"{CONFIG}\",\
         \"digest\":\"{config}\",\"size\":2}},\"layers\":[],\"annotations\":{{\"n\":\"{number}\"}}}}"
    )
}

fn index(response: &reqwest::Response) -> u64 {
    response.headers()["trow-log-id"].to_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_read_is_older_than_what_was_acknowledged_before_it() {
    let registry = Registry::start().await;
    registry.push_blob("r", b"{}").await;
    let acknowledged: Vec<AtomicU64> = (0..TAGS).map(|_| AtomicU64::new(0)).collect();
    let reads = AtomicU64::new(0);
    let until = Instant::now() + Duration::from_secs(2);
    let path = |tag: usize| format!("/v2/r/manifests/t{tag}");
    let writers = (0..TAGS).map(async |tag| {
        let mut turn = 0;
        while Instant::now() < until {
            turn += 1;
            let response = if turn % 7 == 0 {
                registry.delete(&path(tag)).await
            } else {
                registry.put_manifest("r", &format!("t{tag}"), IMAGE, &numbered(turn % 3)).await
            };
            assert!(response.status().is_success(), "{response:?}");
            acknowledged[tag].fetch_max(index(&response), Ordering::SeqCst);
        }
    });
    let readers = (0..3 * TAGS).map(async |reader| {
        let tag = reader % TAGS;
        let method = if reader < TAGS { Method::HEAD } else { Method::GET };
        while Instant::now() < until {
            let before = acknowledged[tag].load(Ordering::SeqCst);
            let response = registry.request(method.clone(), &path(tag)).send().await.unwrap();
            let (status, at) = (response.status(), index(&response));
            assert!(status == 200 || status == 404, "{status}");
            assert!(at >= before, "{status} of index {at} after {before} was acknowledged");
            if status == 200 && method == Method::GET {
                let digest = response.headers()["docker-content-digest"].to_str().unwrap().to_owned();
                let body = response.bytes().await.unwrap();
                assert_eq!(trow_raft::Digest::sha256(&body).to_string(), digest);
            }
            reads.fetch_add(1, Ordering::Relaxed);
        }
    });
    tokio::join!(join_all(writers), join_all(readers));
    let stats = registry.replies.stats();
    assert!(stats.hits > 0 && stats.misses > 0, "{stats:?}");
    assert!(stats.hits + stats.misses >= reads.into_inner());
}

#[tokio::test]
async fn a_reply_from_memory_is_the_reply_from_the_state() {
    let registry = Registry::start().await;
    let text = registry.push_image("r", "t", "layer").await;
    let digest = trow_raft::Digest::sha256(text.as_bytes());
    for path in [format!("/v2/r/manifests/{digest}"), "/v2/r/manifests/t".to_owned()] {
        let kept = registry.replies.stats();
        let replies = [
            registry.get(&path).await,
            registry.get(&path).await,
            registry.head(&path).await,
            registry.get(&path).await,
        ];
        let now = registry.replies.stats();
        assert_eq!((now.hits - kept.hits, now.misses - kept.misses), (3, 1), "{path}");
        let mut seen = Vec::new();
        for reply in replies {
            let mut headers = reply.headers().clone();
            for name in ["x-request-id", "date"] {
                headers.remove(name);
            }
            seen.push((reply.status(), headers, reply.bytes().await.unwrap()));
        }
        assert_eq!(seen[0], seen[1]);
        assert_eq!(seen[0], seen[3]);
        assert_eq!((&seen[0].0, &seen[0].1), (&seen[2].0, &seen[2].1), "HEAD has the headers of GET");
        assert_eq!((&seen[0].2[..], &seen[2].2[..]), (text.as_bytes(), &b""[..]));
    }
}

#[tokio::test]
async fn a_manifest_too_large_to_be_kept_is_read_each_time() {
    let registry = Registry::start().await;
    registry.push_blob("r", b"{}").await;
    let large = numbered(1).replace("\"n\":\"1\"", &format!("\"n\":\"{}\"", "x".repeat(300 << 10)));
    assert_eq!(registry.put_manifest("r", "t", IMAGE, &large).await.status(), 201);
    for _ in 0..2 {
        let head = registry.head("/v2/r/manifests/t").await;
        assert_eq!(head.headers()["content-length"], large.len().to_string());
        assert_eq!(registry.get("/v2/r/manifests/t").await.text().await.unwrap(), large);
    }
    let stats = registry.replies.stats();
    assert_eq!((stats.hits, stats.bytes), (0, 0));
}
