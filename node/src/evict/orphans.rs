//! Files that no cached manifest lists any more: of images that were purged, or never recorded.
//!
//! They go without the disk being full, once nobody has asked for them for a while: a pull under way
//! may have come before its manifest is recorded.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::known::unlisted;
use super::{EvictError, Evicted, Evictor};
use crate::store::{CachedFile, blocking};

/// How long nobody may have asked for one that goes.
pub(super) const AGE: Duration = Duration::from_secs(3600);

impl Evictor {
    /// Evicts what no cached manifest lists and nobody asked for within `age`.
    pub(super) async fn orphans(&self, age: Duration) -> Result<Evicted, EvictError> {
        let (store, agreed) = (self.inner.store.clone(), self.inner.agreed.clone());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let before = now.saturating_sub(age).as_millis() as u64;
        let find = move || {
            let old = store.oldest_cached(usize::MAX, |file| file.accessed < before);
            let digests: HashSet<_> = old.iter().map(|file| file.digest).collect();
            let orphans = if digests.is_empty() { digests } else { unlisted(&agreed, digests)? };
            // Somebody may have asked for it meanwhile.
            let still = |file: &CachedFile| {
                orphans.contains(&file.digest) && store.accessed(&file.digest) == Some(file.accessed)
            };
            Ok::<_, EvictError>(old.into_iter().filter(still).collect::<Vec<_>>())
        };
        let orphans = blocking(find).await?;
        let mut gone = Evicted::default();
        if !orphans.is_empty() {
            let _one = self.inner.passes.lock().await;
            self.evict_these(&orphans, u64::MAX, &mut gone, &mut HashSet::new()).await?;
        }
        Ok(gone)
    }
}
