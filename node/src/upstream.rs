//! The client of upstream registries: what they have, asked for as the settings say.
//!
//! Owns everything between a name and bytes of somebody else's registry: where it is, with which credentials,
//! how often. Always holds: what is asked is a GET or HEAD of a repository that the settings allow; a name is a
//! key of settings and never dialled unless its host was parsed as one; a text that leaves here holds no secret.
//! Never does: keep what came, decide who may have it, or verify blobs, which happens where they are written.

mod answers;
mod settings;

pub mod credentials;
pub mod trust;

mod registry;

mod blobs;
mod body;
mod lists;
mod manifests;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwap;
use trow_api::pull::UpstreamName;
use trow_api::route::Reference;
use trow_raft::Digest;

pub use answers::{Arriving, Described, Fetched, Listed, Rules, UpstreamError};
pub use settings::{HostSettings, Repositories, UpstreamSettings};

use registry::{Known, Registry};

/// The upstream registries, as they are configured now. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Registries {
    known: Arc<ArcSwap<Known>>,
}

impl Registries {
    /// As `settings` say.
    pub fn new(settings: UpstreamSettings) -> Registries {
        // The program has done so; a test of one part has not.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Registries { known: Arc::new(ArcSwap::from_pointee(Known::new(settings))) }
    }

    /// What the settings say of a repository.
    pub fn rules(&self, name: &UpstreamName) -> Rules {
        self.known.load().rules(name)
    }

    /// What a manifest is: a HEAD, or a GET where that does not tell.
    ///
    /// # Errors
    /// As [`UpstreamError`] says.
    pub async fn describe(
        &self,
        name: &UpstreamName,
        reference: &Reference,
    ) -> Result<Described, UpstreamError> {
        self.registry(name)?.describe(name, reference).await
    }

    /// A manifest whose bytes have the digest that was asked for, or that upstream names.
    ///
    /// # Errors
    /// As [`UpstreamError`] says; `Bad` when it is larger than 4 MiB or has another digest.
    pub async fn manifest(
        &self,
        name: &UpstreamName,
        reference: &Reference,
    ) -> Result<Fetched, UpstreamError> {
        self.registry(name)?.manifest(name, reference).await
    }

    /// The bytes of a blob from byte `from` on, unverified.
    ///
    /// # Errors
    /// As [`UpstreamError`] says.
    pub async fn blob(
        &self,
        name: &UpstreamName,
        digest: &Digest,
        from: u64,
    ) -> Result<Arriving, UpstreamError> {
        self.registry(name)?.blob(name, digest, from).await
    }

    /// The size of a blob, in bytes, as a HEAD says.
    ///
    /// # Errors
    /// As [`UpstreamError`] says.
    pub async fn blob_size(&self, name: &UpstreamName, digest: &Digest) -> Result<u64, UpstreamError> {
        self.registry(name)?.blob_size(name, digest).await
    }

    /// The tags, or `n` of them that come after `last`.
    ///
    /// # Errors
    /// As [`UpstreamError`] says.
    pub async fn tags(
        &self,
        name: &UpstreamName,
        n: Option<usize>,
        last: Option<&str>,
    ) -> Result<Listed, UpstreamError> {
        self.registry(name)?.tags(name, n, last).await
    }

    /// What refers to a manifest. `NotFound` also when upstream does not know the endpoint.
    ///
    /// # Errors
    /// As [`UpstreamError`] says.
    pub async fn referrers(
        &self,
        name: &UpstreamName,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Listed, UpstreamError> {
        self.registry(name)?.referrers(name, subject, artifact_type).await
    }

    /// The registry of a name that may be asked for now.
    fn registry(&self, name: &UpstreamName) -> Result<Arc<Registry>, UpstreamError> {
        self.known.load().registry(name)
    }
}
