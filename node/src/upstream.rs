//! The client of upstream registries: what they have, asked for as the settings say.
//!
//! Owns everything between a name and bytes of somebody else's registry: where it is, with which credentials,
//! how often. Always holds: what is asked is a GET or HEAD of a repository that the settings allow; a name is a
//! key of settings and never dialled unless its host was parsed as one; a text that leaves here holds no secret.
//! Never does: keep what came, decide who may have it, or verify blobs, which happens where they are written.

mod answers;
mod settings;

pub mod credentials;
mod helper;
pub mod trust;

mod address;
mod proxies;
mod resolve;

mod clients;
mod hops;
mod logins;
mod marker;

mod challenge;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod tokens;

mod budget;
mod meter;

mod known;
mod registry;
mod reload;

mod blobs;
mod body;
mod lists;
mod manifests;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwap;
use trow_api::pull::{Prefixes, UpstreamName};
use trow_api::route::Reference;
use trow_raft::Digest;

pub use answers::{Arriving, Described, Fetched, Listed, Rules, UpstreamError};
pub use logins::Places;
pub use marker::Marker;
pub use proxies::Proxies;
pub use resolve::{Lookup, System};
pub use settings::{HostSettings, Repositories, UpstreamSettings};

use crate::follow;
use known::{Files, Known, Lasting};
use registry::Registry;

/// The upstream registries, as they are configured now. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Registries {
    known: Arc<ArcSwap<Known>>,
    lasting: Arc<Lasting>,
}

impl Registries {
    /// As `settings` say, with the names and proxies of this process.
    pub fn new(settings: UpstreamSettings) -> Registries {
        Registries::with(settings, Arc::new(System), Proxies::of_process())
    }

    /// As `settings` say.
    pub fn with(settings: UpstreamSettings, lookup: Arc<dyn Lookup>, proxies: Proxies) -> Registries {
        // The program has done so; a test of one part has not.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let lasting = Arc::new(Lasting::new(lookup, proxies));
        let files = Files::read(&settings, &Files::default(), follow::read);
        let known = Known::new(settings, files, lasting.clone());
        Registries { known: Arc::new(ArcSwap::from_pointee(known)), lasting }
    }

    /// From now on requests say that they come from this cluster, so that they are known if they come back.
    pub fn mark(&self, marker: Marker) {
        self.lasting.marker.store(Some(Arc::new(marker)));
    }

    /// Whether a client's request was made by this cluster itself, as [`Marker::came_back`] says: an upstream
    /// leads back here. Whoever serves clients refuses it with 508 (Loop Detected) before anything is asked.
    pub fn came_back(&self, headers: &http::HeaderMap) -> bool {
        self.lasting.marker.load().as_ref().is_some_and(|marker| marker.came_back(headers))
    }

    /// Remembers in this directory what there were credentials for, so that what was fetched with them stays for
    /// known users when they are taken away. Where nothing was remembered others must be [heard](Self::hear).
    pub fn remember_in(&self, dir: &std::path::Path) {
        self.lasting.logins.keep_in(dir);
    }

    /// What there ever were credentials for, as far as this node knows.
    pub fn places(&self) -> Places {
        self.lasting.logins.places()
    }

    /// What other members know there ever were credentials for; `all` of the others said so.
    pub fn hear(&self, said: Vec<Places>, all: bool) {
        self.lasting.logins.hear(said, all);
    }

    /// Whether this node knows what there ever were credentials for. Until then all counts as fetched with them.
    pub fn knows_logins(&self) -> bool {
        self.lasting.logins.is_known()
    }

    /// Counts what is asked, as `trow_upstream_…`.
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.lasting.meter.register(registry);
    }

    /// Credential helpers are found in a directory.
    #[cfg(test)]
    fn helpers_in(&self, dir: &std::path::Path) {
        self.lasting.helpers.store(Arc::new(helper::Helpers::of(dir.to_owned())));
    }

    /// Names here that stand for registries, as they are configured now.
    pub fn prefixes(&self) -> Prefixes {
        self.lasting.prefixes.clone()
    }

    /// What the settings say of a repository.
    pub fn rules(&self, name: &UpstreamName) -> Rules {
        self.known.load().rules(name)
    }

    /// Whether what is behind the name is fetched with credentials that do not count as everybody's.
    pub fn needs_user(&self, name: &UpstreamName) -> bool {
        self.known.load().needs_user(name)
    }

    /// Whether there are credentials for any upstream, or ever were.
    pub fn had_logins(&self) -> bool {
        self.known.load().had_logins()
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

    /// Whether a manifest would be fetched now, as far as the upstream's limits go: whoever is told of one comes
    /// for it next.
    ///
    /// # Errors
    /// `Unavailable` while it would not.
    pub fn may_fetch(&self, name: &UpstreamName) -> Result<(), UpstreamError> {
        self.registry(name)?.may_fetch()
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
