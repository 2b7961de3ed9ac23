//! The administration of one node, asked in this process: a real state, a real log, no listener.

mod cache;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode, header};
use serde_json::Value;
use tower::ServiceExt as _;
use trow_api::{Access, AdminToken};
use trow_raft::{Command, Digest, Generation, Member, MemberState, Metadata, NodeId, Outcome, Planted};

use super::{Admin, router};
use crate::peer_blobs::PeerBlobs;
use crate::replicated::{Limits, Replicated};
use crate::store::Store;
use crate::warm::Warmer;
use crate::webhook::Trust;

const TOKEN: &str = "the-admin-token";
const ME: NodeId = NodeId(1);
/// No step of a test takes longer than this.
const BOUND: Duration = Duration::from_secs(60);

/// What each node says that it has on its disk.
type Held = Arc<Mutex<Vec<(NodeId, BTreeSet<Digest>)>>>;

/// A node with its administration.
struct Node {
    metadata: Metadata,
    /// What each node says that it holds.
    held: Held,
    router: Router,
    _dir: tempfile::TempDir,
}

/// A reply, with its body as JSON.
struct Reply {
    status: StatusCode,
    log_id: Option<u64>,
    body: Value,
}

impl Node {
    async fn start() -> Node {
        let dir = tempfile::tempdir().unwrap();
        let (log, data) = (dir.path().join("raft"), dir.path().join("data"));
        std::fs::create_dir_all(&log).unwrap();
        std::fs::create_dir_all(&data).unwrap();
        let metadata = Metadata::open(trow_raft::Settings::alone(ME, &log)).await.unwrap();
        metadata.initialize(BTreeSet::from([ME])).await.unwrap();
        let member = Member {
            id: ME,
            name: "n1".into(),
            zone: String::new(),
            state: MemberState::Active,
            generation: Generation(1),
            max_level: trow_raft::command::LEVEL,
            weight: 1,
            client: String::new(),
            peer: String::new(),
        };
        tokio::time::timeout(BOUND, metadata.birth(1, vec![member])).await.unwrap();
        let store = Store::open(&data, Planted::NONE).unwrap();
        let alone = |node, _| -> futures::future::BoxFuture<'static, _> {
            Box::pin(async move { Err(format!("there is no {node}")) })
        };
        let peers = PeerBlobs::new(Arc::new(alone), Arc::new(|_| None));
        let limits = Limits { expiry: BOUND, max_sessions: 1, max_bytes: 1 };
        let blobs = Replicated::new(ME, store, (&metadata).into(), peers, b"secret", limits, Planted::NONE);
        let cluster = crate::cluster_dir::create(&dir.path().join("cluster")).unwrap();
        let held = Held::default();
        let says = held.clone();
        let upstreams = Arc::new(trow_api::pull::memory::Memory::default());
        let explainer = trow_api::admission::Explainer::new(
            metadata.clone(),
            Arc::new(blobs.clone()),
            upstreams.clone(),
            &[],
            &trow_api::pull::Prefixes::default(),
        );
        let admin = Admin {
            metadata: metadata.clone(),
            blobs,
            explainer,
            survey: Arc::new(|_| Box::pin(async { Vec::new() })),
            holds: Arc::new(move |digests| {
                let held = says.lock().unwrap().clone();
                let said = held
                    .into_iter()
                    .map(|(node, has)| (node, digests.iter().map(|digest| has.contains(digest)).collect()));
                let said = said.collect();
                Box::pin(async move { said })
            }),
            warmer: Warmer::new(upstreams),
            access: Access::new(AdminToken::new(TOKEN), &trow_api::Auth::default()),
            trust: Trust::new((&metadata).into(), Arc::new(cluster), true, None),
        };
        Node { metadata, held, router: router(admin), _dir: dir }
    }

    async fn done(&self, command: Command) -> u64 {
        let applied = self.metadata.propose("test", command).await.unwrap();
        assert_eq!(applied.outcome, Outcome::Done);
        applied.index
    }

    async fn ask(&self, method: &str, path: &str) -> Reply {
        self.ask_with(method, path, Some(TOKEN)).await
    }

    async fn ask_with(&self, method: &str, path: &str, token: Option<&str>) -> Reply {
        let mut request = Request::builder().method(method).uri(format!("/-/trow/v1/{path}"));
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let asked = self.router.clone().oneshot(request.body(Body::empty()).unwrap());
        let reply = tokio::time::timeout(BOUND, asked).await.unwrap().unwrap();
        let log_id = reply.headers().get("trow-log-id").map(|id| id.to_str().unwrap().parse().unwrap());
        let status = reply.status();
        let body = axum::body::to_bytes(reply.into_body(), 1 << 20).await.unwrap();
        Reply { status, log_id, body: serde_json::from_slice(&body).unwrap_or_default() }
    }
}
