//! Pulling images into the cluster before anybody asks for them.
//!
//! Always holds: bytes go to the nodes that keep them and nowhere else; an image that fails stops no other; no
//! more than a bounded number of blobs is under way; who no longer listens ends the work. Never does: decide what
//! may be pulled.

mod choose;
pub mod event;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use trow_api::manifest::parse::parse;
pub use trow_api::pull::Image;
use trow_api::pull::{PullError, Pulled, UpstreamName, Upstreams};
use trow_api::route::Reference;
use trow_raft::Digest;

pub use choose::{Platform, Wanted};
pub use event::Event;

/// Images at once.
const IMAGES: usize = 4;
/// Blobs at once, of all images.
const BLOBS: usize = 8;
/// How deep an index may lie within another.
const DEPTH: usize = 4;
/// How often it is said how far an image is.
const TELL: Duration = Duration::from_millis(500);
/// What was said and not yet read; how far an image is is left out beyond.
const UNREAD: usize = 256;

/// Pulls images. Cheap to clone.
#[derive(Clone)]
pub struct Warmer {
    upstreams: Arc<dyn Upstreams>,
    blobs: Arc<Semaphore>,
}

/// Why an image is not here as a whole.
#[derive(Debug, thiserror::Error)]
enum WarmError {
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error("its manifest {0} is neither an image's nor an index")]
    Manifest(Digest),
    #[error("it has nothing for {wanted}; it has {there}")]
    NoPlatform { wanted: String, there: String },
    #[error("indexes lie within each other more than {DEPTH} deep")]
    Deep,
    #[error("the blob {0} broke off: {1}")]
    Broken(Digest, std::io::Error),
}

impl Warmer {
    /// One for this node.
    pub fn new(upstreams: Arc<dyn Upstreams>) -> Self {
        Warmer { upstreams, blobs: Arc::new(Semaphore::new(BLOBS)) }
    }

    /// Pulls `images`, and says how it goes until all are done or failed.
    pub fn warm(&self, images: Vec<Image>, wanted: Wanted) -> impl Stream<Item = Event> + Send + 'static {
        let (tell, told) = mpsc::channel(UNREAD);
        let (warmer, wanted) = (self.clone(), Arc::new(wanted));
        let mut work = JoinSet::new();
        work.spawn(async move {
            let each = |image| warmer.image(image, &wanted, &tell);
            stream::iter(images).for_each_concurrent(IMAGES, each).await;
        });
        // The work ends with the stream.
        stream::unfold(
            (told, work),
            |(mut told, work)| async move { Some((told.recv().await?, (told, work))) },
        )
    }

    async fn image(&self, image: Image, wanted: &Wanted, tell: &mpsc::Sender<Event>) {
        let (name, came) = (image.to_string(), AtomicU64::new(0));
        let mut ticks = interval(TELL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let pull = self.pull(&image, wanted, &came, tell);
        tokio::pin!(pull);
        let ended = loop {
            tokio::select! {
                ended = &mut pull => break ended,
                _ = ticks.tick() => {
                    let _ = tell.try_send(Event::Progress { image: name.clone(), bytes: came.load(Ordering::Relaxed) });
                }
            }
        };
        let event = match ended {
            Ok((digest, blobs, stale)) => Event::Done {
                image: name,
                digest: digest.to_string(),
                blobs,
                bytes: came.load(Ordering::Relaxed),
                stale,
            },
            Err(error) => Event::Failed { image: name, error: error.to_string() },
        };
        let _ = tell.send(event).await;
    }

    /// Pulls one; its digest, how many blobs it has, and why it may be old.
    async fn pull(
        &self,
        image: &Image,
        wanted: &Wanted,
        came: &AtomicU64,
        tell: &mpsc::Sender<Event>,
    ) -> Result<(Digest, u64, Option<String>), WarmError> {
        let mut top = self.upstreams.manifest(&image.name, &image.reference, false).await?;
        // What has a digest is never old: only the word of what a tag is.
        let stale = top.stale.take();
        let (digest, mut blobs) = (top.digest, BTreeMap::new());
        let (mut manifests, mut seen) = (vec![(top, 0)], BTreeSet::from([digest]));
        while let Some((pulled, depth)) = manifests.pop() {
            let Named { blobs: more, children } = read(&pulled, wanted)?;
            blobs.extend(more);
            if !children.is_empty() && depth == DEPTH {
                return Err(WarmError::Deep);
            }
            for child in children {
                // An index may name one twice, and again in those below it.
                if !seen.insert(child) {
                    continue;
                }
                let child = self.upstreams.manifest(&image.name, &Reference::Digest(child), false).await?;
                manifests.push((child, depth + 1));
            }
        }
        let found = Event::Found {
            image: image.to_string(),
            digest: digest.to_string(),
            blobs: blobs.len() as u64,
            bytes: blobs.values().sum(),
        };
        let _ = tell.send(found).await;
        let count = blobs.len() as u64;
        let each = |(blob, _)| self.blob(&image.name, blob, came);
        let mut pulls = stream::iter(blobs).map(each).buffer_unordered(BLOBS);
        while let Some(pulled) = pulls.next().await {
            pulled?;
        }
        Ok((digest, count, stale))
    }

    /// Reads a blob to its end, which it has only if it is right.
    async fn blob(&self, name: &UpstreamName, digest: Digest, came: &AtomicU64) -> Result<(), WarmError> {
        // It is never closed.
        let _permit = self.blobs.acquire().await.ok();
        let mut content = self.upstreams.blob(name, &digest, &|size| Some(0..size)).await?;
        while let Some(piece) = content.body.next().await {
            let piece = piece.map_err(|error| WarmError::Broken(digest, error))?;
            came.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// What a manifest names.
struct Named {
    /// With their sizes.
    blobs: Vec<(Digest, u64)>,
    /// Those of its children that are wanted.
    children: Vec<Digest>,
}

/// Reads what a manifest names.
fn read(pulled: &Pulled, wanted: &Wanted) -> Result<Named, WarmError> {
    let unreadable = || WarmError::Manifest(pulled.digest);
    let bytes = pulled.bytes.clone().ok_or_else(unreadable)?;
    let parsed = parse(pulled.digest, Some(&pulled.media_type), bytes.clone()).map_err(|_| unreadable())?;
    let size = |digest: &Digest| parsed.sizes.get(digest).copied().unwrap_or_default();
    let blobs = parsed.manifest.blobs.iter().map(|blob| (*blob, size(blob))).collect();
    if parsed.manifest.children.is_empty() {
        return Ok(Named { blobs, children: Vec::new() });
    }
    let children = choose::children(&bytes).ok_or_else(unreadable)?;
    let chosen = wanted.of(&children);
    if chosen.is_empty() {
        let there: Vec<String> =
            children.iter().filter_map(|child| child.platform.as_ref()).map(ToString::to_string).collect();
        return Err(WarmError::NoPlatform { wanted: wanted.to_string(), there: there.join(", ") });
    }
    Ok(Named { blobs, children: chosen })
}
