//! The port of the API over the cache: manifests and lists from one part, blobs from the other.

use std::ops::Range;

use async_trait::async_trait;
use axum::{Router, middleware};
use prometheus_client::registry::Registry;
use trow_api::pull::{Content, PullError, Pulled, Relayed, UpstreamName, Upstreams};
use trow_api::route::Reference;
use trow_raft::{Digest, Evidence};

use super::serve_manifests;
use super::{Cache, Manifests};
use crate::peer_blobs::answer::only_peers;
use crate::peer_blobs::wire;

/// What upstream registries have, through this node. Cheap to clone.
#[derive(Clone)]
pub struct PullThrough {
    /// Manifests, tags, referrers, and what lists which blob.
    pub manifests: Manifests,
    /// Blobs.
    pub blobs: Cache,
}

impl PullThrough {
    /// What peers ask of this node, for the peer listener's HTTP/1.1 side.
    pub fn peer_router(&self) -> Router {
        let manifests = serve_manifests::routes(self.manifests.clone())
            .layer(axum::extract::DefaultBodyLimit::max(wire::REQUEST_MAX))
            .layer(middleware::from_fn(only_peers));
        self.blobs.peer_router().merge(manifests)
    }

    /// Shows what is counted at each scrape.
    pub fn register(&self, registry: &mut Registry) {
        self.manifests.register(registry);
        registry.register_collector(Box::new(self.blobs.clone()));
    }
}

#[async_trait]
impl Upstreams for PullThrough {
    fn needs_user(&self, name: &UpstreamName) -> bool {
        self.manifests.needs_user(name)
    }

    async fn manifest(
        &self,
        name: &UpstreamName,
        reference: &Reference,
        head: bool,
    ) -> Result<Pulled, PullError> {
        self.manifests.manifest(name, reference, head).await
    }

    async fn blob_size(&self, name: &UpstreamName, digest: &Digest) -> Result<u64, PullError> {
        self.blobs.blob_size(name, digest).await
    }

    async fn blob(
        &self,
        name: &UpstreamName,
        digest: &Digest,
        range: &(dyn for<'s> Fn(u64) -> Option<Range<u64>> + Send + Sync),
    ) -> Result<Content, PullError> {
        self.blobs.blob(name, digest, range).await
    }

    async fn tags(
        &self,
        name: &UpstreamName,
        n: Option<usize>,
        last: Option<&str>,
    ) -> Result<Relayed, PullError> {
        self.manifests.tags(name, n, last).await
    }

    async fn referrers(
        &self,
        name: &UpstreamName,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Relayed, PullError> {
        self.manifests.referrers(name, subject, artifact_type).await
    }

    async fn hold(&self, name: &UpstreamName, digest: &Digest) -> Option<(u64, Vec<Evidence>)> {
        self.blobs.hold(name, digest).await
    }
}
