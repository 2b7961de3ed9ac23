//! Under which names bytes that are here may be given, by where they came from.
//!
//! A manifest that lists a blob proves nothing: anybody can push one to a registry of their own, and so have what
//! others fetched with credentials, if its digest and size are known. What was fetched with credentials is given
//! under a name for everybody only once that name's own upstream gave all of the bytes: digest and all, which no
//! word of a registry replaces. So it is with durable blobs whose bytes were pushed here, and not fetched.
//! Always holds: a file remembers by which name its bytes came, one that needs no user rather than one that does; without credentials for any upstream, now or ever, there is nothing to keep
//! apart. What is not known counts as fetched with credentials. Never does: judge who asks; names that need a
//! user are for users alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trow_api::pull::UpstreamName;
use trow_raft::{Digest, RepoName};

use crate::store::Store;
use crate::upstream::Registries;

/// Origins that are remembered of blobs which only passed.
const HEARD_MAX: usize = 16 << 10;

/// Where what is here came from. Cheap to clone; clones are the same.
#[derive(Clone)]
pub(super) struct Origins {
    store: Store,
    registries: Registries,
    /// Of small blobs that other nodes gave, which are in memory alone. It stays true of the bytes.
    heard: Arc<Mutex<HashMap<Digest, RepoName>>>,
}

impl Origins {
    pub(super) fn new(store: Store, registries: Registries) -> Origins {
        Origins { store, registries, heard: Arc::default() }
    }

    /// Whether what is here of the blob may be given under the name, which lists it.
    pub(super) fn may_give(&self, name: &UpstreamName, digest: &Digest) -> bool {
        let is_everybodys = || match self.of(digest) {
            Some(origin) => self.is_public(Some(&origin)),
            // What is not cached was pushed here, into a repository that may be nobody's any more.
            None => self.is_public(None) && self.store.is_cached(digest),
        };
        self.registries.needs_user(name) || is_everybodys()
    }

    /// The name by which the bytes that are here came, if that is known.
    pub(super) fn of(&self, digest: &Digest) -> Option<RepoName> {
        self.store.origin(digest).or_else(|| self.heard().get(digest).cloned())
    }

    /// What to remember of bytes that came by `new`: what is remembered already, if everybody may have it.
    pub(super) fn better(&self, digest: &Digest, new: Option<RepoName>) -> Option<RepoName> {
        self.of(digest).filter(|old| self.is_public(Some(old))).or(new)
    }

    /// A peer that gave the whole blob says by which name it came.
    pub(super) fn heard_of(&self, digest: &Digest, origin: RepoName) {
        let mut heard = self.heard();
        if heard.len() >= HEARD_MAX && !heard.contains_key(digest) {
            // They are heard of again.
            heard.clear();
        }
        heard.insert(*digest, origin);
    }

    /// Whether the name by which bytes came needs a user.
    pub(super) fn needs_user(&self, origin: Option<&RepoName>) -> bool {
        origin.and_then(UpstreamName::of_local).is_some_and(|name| self.registries.needs_user(&name))
    }

    /// Whether bytes that came by this name are everybody's.
    fn is_public(&self, origin: Option<&RepoName>) -> bool {
        match origin.and_then(UpstreamName::of_local) {
            Some(name) => !self.registries.needs_user(&name),
            None => !self.registries.had_logins(),
        }
    }

    fn heard(&self) -> MutexGuard<'_, HashMap<Digest, RepoName>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
