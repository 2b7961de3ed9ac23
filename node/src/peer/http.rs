//! HTTP/1.1 to peers, on pooled connections that are proven before anything is sent on them.

use std::sync::Weak;

use axum::body::Body;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use trow_raft::NodeId;

use super::dial::{DialError, Dialer, chain};
use super::{Inner, Kind};
use crate::identity::dns_name;

/// Idle connections kept to each peer, and how long.
const IDLE_PER_PEER: usize = 32;
const IDLE: std::time::Duration = std::time::Duration::from_secs(30);

pub(super) type Client = legacy::Client<Dialer, Body>;

pub(super) fn client(peers: Weak<Inner>) -> Client {
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_PER_PEER)
        .build(Dialer { peers, kind: Kind::Blob })
}

/// HTTP/1.1 to one peer.
#[derive(Clone)]
pub struct PeerHttp {
    node: NodeId,
    client: Client,
}

impl PeerHttp {
    pub(super) fn new(node: NodeId, client: Client) -> Self {
        PeerHttp { node, client }
    }

    /// Sends `request`, whose URI has a path and a query; scheme and authority are put in here.
    /// Waits without limit for the head of the reply.
    ///
    /// # Errors
    /// The peer was not reached, or no reply came.
    pub async fn call(&self, mut request: Request<Body>) -> Result<Response<Body>, DialError> {
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Authority::try_from(dns_name(self.node)).ok();
        parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from_parts(parts).map_err(|error| self.failed(&error))?;
        let reply = self.client.request(request).await.map_err(|error| self.failed(&error))?;
        Ok(reply.map(Body::new))
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> DialError {
        DialError::Request { node: self.node, why: chain(error) }
    }
}
