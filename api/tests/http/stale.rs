//! What a node answers when it has lost the others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::{Method, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use trow_api::blobs::memory::Memory;
use trow_api::{Settings, WithoutQuorum};
use trow_raft::{Digest, Metadata, NodeId, PeerId};

use crate::support::{BOUND, IMAGE, Registry, evidence, header, image, member, problem};

struct Peer {
    metadata: Metadata,
    server: JoinHandle<()>,
    dir: tempfile::TempDir,
}

/// One of two nodes: whoever connects is the other.
async fn open(id: NodeId, other: NodeId, listener: TcpListener, address: String) -> Peer {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = trow_raft::Settings::alone(id, dir.path());
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    settings.connect = Arc::new(move |_| {
        let channel = channel.clone();
        Box::pin(async move { Ok(channel) })
    });
    let metadata = Metadata::open(settings).await.unwrap();
    let service = InterceptedService::new(metadata.service(), move |mut request: tonic::Request<()>| {
        request.extensions_mut().insert(PeerId(other));
        Ok(request)
    });
    let server = Server::builder().add_service(service);
    let server = tokio::spawn(async move {
        let _ = server.serve_with_incoming(TcpIncoming::from(listener)).await;
    });
    Peer { metadata, server, dir }
}

async fn two() -> (Peer, Peer) {
    let ids = [NodeId(1), NodeId(2)];
    let listeners =
        [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap().to_string());
    let [l1, l2] = listeners;
    let [a1, a2] = addresses;
    let (one, two) = (open(ids[0], ids[1], l1, a2).await, open(ids[1], ids[0], l2, a1).await);
    let set = BTreeSet::from(ids);
    one.metadata.initialize(set.clone()).await.unwrap();
    two.metadata.initialize(set).await.unwrap();
    let members = ids.map(member).to_vec();
    let born = async {
        tokio::join!(one.metadata.birth(1, members.clone()), two.metadata.birth(1, members.clone()))
    };
    tokio::time::timeout(BOUND, born).await.unwrap();
    (one, two)
}

fn warning(response: &Response) -> &str {
    header(response, "warning")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_answered_as_stale_and_misses_not_at_all() {
    let (one, two) = two().await;
    let blobs = Arc::new(Memory::new(one.metadata.clone(), vec![evidence(NodeId(1)), evidence(NodeId(2))]));
    let refusing = Settings { without_quorum: WithoutQuorum::Refuse, ..Settings::default() };
    let refusing = Registry::over(one.metadata.clone(), blobs.clone(), refusing, vec![]).await;
    let registry = Registry::over(one.metadata.clone(), blobs, Settings::default(), vec![one.dir]).await;
    let text = registry.push_image("a", "v1", "layer").await;
    let fresh = registry.get("/v2/a/manifests/v1").await;
    assert_eq!((fresh.status().as_u16(), warning(&fresh)), (200, ""));

    two.server.abort();
    two.metadata.shutdown().await;
    let lost = async {
        while one.metadata.leadership().quorum {
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
