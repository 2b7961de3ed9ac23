//! An upstream registry of the test's own, which counts what it is asked and can be made to behave badly.
//!
//! It serves plain HTTP on loopback what it was given (a `Shelf`), writes down every request ([`Seen`]), and
//! does to those that a [`Rule`] matches what the rule says: holds a body, truncates it, sends wrong bytes,
//! redirects, demands credentials, answers 429. Without rules it is an honest registry with ranges, tags and
//! referrers.
//!
//! Always holds: a request is in the book before it is answered. Never does: take anything from clients.

mod guard;
mod rule;
mod seen;
mod serve;
mod shelf;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use trow_raft::Digest;

pub use guard::Guard;
pub use rule::{Hold, Rule, Twist};
pub use seen::{Kind, Seen};
pub use shelf::Object;

use crate::content::Content;
use crate::image::Image;
use guard::Tokens;
use seen::Book;
use shelf::Shelf;

/// A running upstream. It ends when it is dropped.
#[derive(Debug)]
pub struct Upstream {
    /// Where it listens, `host:port`, and listens again after it was down.
    pub address: String,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

/// What its connections work with.
#[derive(Debug, Default)]
struct Shared {
    shelf: Mutex<Shelf>,
    book: Mutex<Book>,
    rules: Mutex<Vec<Rule>>,
    guard: Mutex<Option<Guard>>,
    tokens: Mutex<Tokens>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Upstream {
    /// An empty one.
    ///
    /// # Errors
    /// Without a port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let address = listener.local_addr()?.to_string();
        let shared = Arc::new(Shared::default());
        let serving = tokio::spawn(serve::serve(listener, Arc::clone(&shared)));
        Ok(Upstream { address, shared, serving: Some(serving) })
    }

    /// The settings of a node for which this is the registry `host`.
    pub fn settings(&self, host: &str) -> String {
        format!(
            "[upstream.\"{host}\"]\nendpoint = \"http://{}\"\ninsecure = true\nallow_private = true\n",
            self.address
        )
    }

    /// Goes away: connections break, new ones are refused.
    pub async fn down(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // The port is free once it is over.
            let _ = serving.await;
        }
    }

    /// Comes back.
    ///
    /// # Errors
    /// Somebody else has taken the port.
    pub async fn up(&mut self) -> Result<()> {
        if self.serving.is_none() {
            let listener = TcpListener::bind(&self.address).await.context("listen again")?;
            self.serving = Some(tokio::spawn(serve::serve(listener, Arc::clone(&self.shared))));
        }
        Ok(())
    }

    /// Has an image, under a tag.
    pub fn add(&self, repo: &str, tag: &str, image: &Image) {
        let mut shelf = lock(&self.shared.shelf);
        for (digest, content) in &image.blobs {
            shelf.blob(repo, digest, Object::Made(*content));
        }
        shelf.manifest(repo, Some(tag), image.manifest.clone());
    }

    /// Has a blob.
    pub fn add_blob(&self, repo: &str, content: Content) -> Digest {
        let digest = content.digest();
        lock(&self.shared.shelf).blob(repo, &digest, Object::Made(content));
        digest
    }

    /// Has a manifest, whose media type is the one it names; under a tag or without.
    pub fn add_manifest(&self, repo: &str, tag: Option<&str>, bytes: Bytes) -> Digest {
        lock(&self.shared.shelf).manifest(repo, tag, bytes)
    }

    /// Has all that an OCI layout has; `tag` names the manifest `top`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn add_layout(&self, repo: &str, tag: &str, dir: &std::path::Path, top: &Digest) -> Result<()> {
        lock(&self.shared.shelf).layout(repo, tag, dir, top)
    }

    /// Forgets a tag.
    pub fn remove_tag(&self, repo: &str, tag: &str) {
        lock(&self.shared.shelf).remove_tag(repo, tag);
    }

    /// From now on this is done to requests that it matches, after what earlier rules do.
    pub fn rule(&self, rule: Rule) {
        lock(&self.shared.rules).push(rule);
    }

    /// Nothing is done to requests any more. Bodies that are held stay so until released.
    pub fn behave(&self) {
        lock(&self.shared.rules).clear();
    }

    /// From now on credentials are demanded, or no longer. Tokens that were given are no good any more.
    pub fn guard(&self, guard: Option<Guard>) {
        *lock(&self.shared.tokens) = Tokens::default();
        *lock(&self.shared.guard) = guard;
    }

    /// Every request since the last [`Self::forget`], in the order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.book).seen.clone()
    }

    /// How many of them there were.
    pub fn count(&self, method: &str, kind: Kind) -> usize {
        lock(&self.shared.book).seen.iter().filter(|seen| seen.method == method && seen.kind == kind).count()
    }

    /// How many there were of one path, without what follows `?`.
    pub fn asked(&self, method: &str, path: &str) -> usize {
        let book = lock(&self.shared.book);
        book.seen.iter().filter(|seen| seen.method == method && seen.path() == path).count()
    }

    /// The most requests that were answered at once.
    pub fn most_at_once(&self) -> usize {
        lock(&self.shared.book).most
    }

    /// Begins to count anew.
    pub fn forget(&self) {
        lock(&self.shared.book).forget();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

#[cfg(test)]
mod tests;
