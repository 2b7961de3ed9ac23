//! What a node answers when it has lost the others.

use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::{Method, Response};
use trow_api::{Settings, WithoutQuorum};
use trow_raft::Digest;

use crate::peers::Peers;
use crate::support::{BOUND, IMAGE, header, image, problem};

fn warning(response: &Response) -> &str {
    header(response, "warning")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_answered_as_stale_and_misses_not_at_all() {
    let mut peers = Peers::start(2).await;
    let one = peers.metadata(1);
    let refusing = Settings { without_quorum: WithoutQuorum::Refuse, ..Settings::default() };
    let refusing = peers.registry_with(1, refusing).await;
    let registry = peers.registry(1).await;
    let text = registry.push_image("a", "v1", "layer").await;
    let fresh = registry.get("/v2/a/manifests/v1").await;
    assert_eq!((fresh.status().as_u16(), warning(&fresh)), (200, ""));

    peers.stop(2).await;
    let lost = async {
        while one.leadership().quorum {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BOUND, lost).await.unwrap();

    let began = Instant::now();
    let names = ["/v2/a/manifests/v1", "/v2/a/tags/list", "/v2/_catalog", &referrers()];
    let answers = join_all(names.map(|path| registry.get(path)));
    let refused = join_all(names.map(|path| refusing.get(path)));
    let (answers, refused) = tokio::join!(answers, refused);
    assert!(began.elapsed() < Duration::from_secs(4), "a name took {:?}", began.elapsed());
    for stale in answers {
        assert_eq!(stale.status(), 200, "{}", stale.url());
        assert!(warning(&stale).starts_with("299 - \"stale: no quorum since 20"), "{}", warning(&stale));
        assert!(warning(&stale).ends_with("Z\""), "{}", warning(&stale));
        // No agent, no date, one line, and far from the 4,096 bytes that all may have.
        let lines: Vec<_> = stale.headers().get_all("warning").iter().collect();
        let total: usize = lines.iter().map(|line| line.len()).sum();
        assert!(lines.len() == 1 && total <= 4096 && warning(&stale).matches('"').count() == 2);
    }
    for response in refused {
        unavailable(response).await;
    }
    for path in [
        format!("/v2/a/manifests/{}", Digest::sha256(text.as_bytes())),
        format!("/v2/a/blobs/{}", Digest::sha256(b"layer")),
    ] {
        let content = registry.get(&path).await;
        assert_eq!((content.status().as_u16(), warning(&content)), (200, ""), "content cannot be stale");
    }

    let misses = ["/v2/a/manifests/v2", "/v2/b/tags/list", &format!("/v2/a/blobs/{}", Digest::sha256(b"x"))];
    let misses = async {
        let began = Instant::now();
        for response in join_all(misses.map(|path| registry.get(path))).await {
            unavailable(response).await;
        }
        assert!(began.elapsed() < Duration::from_secs(8), "a miss took {:?}", began.elapsed());
    };
    let request = registry.request(Method::PUT, "/v2/a/manifests/v2").header("content-type", IMAGE);
    let write = request.body(image("layer").to_string()).send();
    let (write, ()) = tokio::join!(write, misses);
    unavailable(write.unwrap()).await;
}

async fn unavailable(response: Response) {
    assert_eq!(header(&response, "retry-after"), "1", "{}", response.url());
    assert_eq!(problem(response).await, (503, "UNAVAILABLE".into()));
}

fn referrers() -> String {
    format!("/v2/a/referrers/{}", Digest::sha256(b"x"))
}
