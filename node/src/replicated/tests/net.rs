//! A network whose nodes can go down, hang and lie.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};
use http::{Request, Response};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use tokio::sync::watch;
use tower::ServiceExt as _;
use trow_raft::NodeId;
use trow_raft::metadata::PeerId;

use crate::peer_blobs::{Call, PeerBlobs};

/// Who can be reached, and what went over the wire.
pub struct Net {
    faults: watch::Sender<Faults>,
    pub routers: OnceLock<BTreeMap<NodeId, Router>>,
    /// Where the nodes listen, when they do: requests go over TCP then.
    pub addresses: OnceLock<BTreeMap<NodeId, SocketAddr>>,
    pub requests: Mutex<Vec<String>>,
}

#[derive(Clone, Default)]
struct Faults {
    down: BTreeSet<NodeId>,
    hung: BTreeSet<NodeId>,
    /// A node that goes down after it has sent this many more bytes of blobs.
    fuse: BTreeMap<NodeId, u64>,
    /// Nodes whose blob bytes are wrong, checksums notwithstanding.
    liars: BTreeSet<NodeId>,
}

impl Net {
    /// Where nobody has a fault, and nobody answers yet.
    pub fn new() -> Arc<Net> {
        Arc::new(Net {
            faults: watch::Sender::new(Faults::default()),
            routers: OnceLock::new(),
            addresses: OnceLock::new(),
            requests: Mutex::default(),
        })
    }

    fn set(&self, change: impl FnOnce(&mut Faults)) {
        self.faults.send_modify(change);
    }

    pub fn down(&self, node: u64) {
        self.set(|faults| faults.down.extend([NodeId(node)]));
    }

    pub fn up(&self, node: u64) {
        self.set(|faults| {
            faults.down.remove(&NodeId(node));
            faults.hung.remove(&NodeId(node));
        });
    }

    pub fn hang(&self, node: u64) {
        self.set(|faults| faults.hung.extend([NodeId(node)]));
    }

    pub fn lies(&self, node: u64) {
        self.set(|faults| faults.liars.extend([NodeId(node)]));
    }

    /// Takes the node down once it has sent `bytes` more of blobs.
    pub fn down_after(&self, node: u64, bytes: u64) {
        self.set(|faults| faults.fuse.extend([(NodeId(node), bytes)]));
    }

    fn is_down(&self, node: NodeId) -> bool {
        self.faults.borrow().down.contains(&node)
    }

    async fn until_down(&self, one: NodeId, other: NodeId) {
        let mut faults = self.faults.subscribe();
        let _ = faults.wait_for(|faults| faults.down.contains(&one) || faults.down.contains(&other)).await;
    }

    async fn until_hung(&self, one: NodeId, other: NodeId) {
        let mut faults = self.faults.subscribe();
        let _ = faults.wait_for(|faults| faults.hung.contains(&one) || faults.hung.contains(&other)).await;
    }

    /// A body that breaks off when either end goes down and stops when either hangs.
    fn carry(self: &Arc<Self>, body: Body, from: NodeId, to: NodeId) -> Body {
        let net = self.clone();
        let body = body.into_data_stream();
        Body::from_stream(stream::try_unfold(body, move |mut body| {
            let net = net.clone();
            async move {
                let reset = || std::io::Error::other("the connection was reset");
                let next = tokio::select! {
                    biased;
                    () = net.until_down(from, to) => return Err(reset()),
                    () = net.until_hung(from, to) => { net.until_down(from, to).await; return Err(reset()) }
                    next = body.next() => next,
                };
                let Some(bytes) = next.transpose().map_err(std::io::Error::other)? else { return Ok(None) };
                let mut bytes: Bytes = bytes;
                net.set(|faults| {
                    if let Some(left) = faults.fuse.get_mut(&from) {
                        *left = left.saturating_sub(bytes.len() as u64);
                        if *left == 0 {
                            faults.fuse.remove(&from);
                            faults.down.insert(from);
                        }
                    }
                });
                if net.faults.borrow().liars.contains(&from) {
                    let mut wrong = bytes.to_vec();
                    wrong[0] ^= 1;
                    bytes = wrong.into();
                }
                Ok(Some((bytes, body)))
            }
        }))
    }

    async fn call(
        self: Arc<Self>,
        from: NodeId,
        to: NodeId,
        request: Request<Body>,
    ) -> Result<Response<Body>, String> {
        self.requests.lock().unwrap().push(format!("{from} {to} {} {}", request.method(), request.uri()));
        if self.is_down(from) || self.is_down(to) {
            return Err("connection refused".into());
        }
        let (parts, body) = request.into_parts();
        let mut request = Request::from_parts(parts, self.carry(body, from, to));
        if let Some(addresses) = self.addresses.get() {
            let uri = format!("http://{}{}", addresses[&to], request.uri());
            *request.uri_mut() = uri.parse().unwrap();
            let client = legacy::Client::builder(TokioExecutor::new()).build_http();
            let reply = client.request(request).await.map_err(|error| error.to_string())?;
            return Ok(reply.map(Body::new));
        }
        request.extensions_mut().insert(PeerId(from));
        let router = self.routers.get().unwrap()[&to].clone();
        let reply = tokio::select! {
            biased;
            () = self.until_down(from, to) => return Err("the connection was reset".into()),
            () = self.until_hung(from, to) => { self.until_down(from, to).await; return Err("reset".into()) }
            reply = router.oneshot(request) => reply.unwrap(),
        };
        let (parts, body) = reply.into_parts();
        // As HTTP/1.1 does, a length that was promised is insisted on.
        Ok(Response::from_parts(parts, self.carry(body, to, from)))
    }
}

/// The peers of `me` over the network.
pub fn peers(net: &Arc<Net>, me: NodeId) -> PeerBlobs {
    let (calls, heard) = (net.clone(), net.clone());
    let call: Call = Arc::new(move |to, request| calls.clone().call(me, to, request).boxed());
    let silence = move |node| {
        let faults = heard.faults.borrow();
        let lost = faults.down.contains(&node) || faults.hung.contains(&node);
        Some(if lost { Duration::from_secs(10) } else { Duration::ZERO })
    };
    PeerBlobs::new(call, Arc::new(silence))
}
