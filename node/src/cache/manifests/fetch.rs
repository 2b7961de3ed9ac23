//! Fetching a manifest by digest, once for all who want it.

use tracing::info;
use trow_api::manifest::parse;
use trow_api::pull::{PullError, UpstreamName};
use trow_api::route::Reference;
use trow_raft::Digest;

use std::sync::Arc;

use bytes::Bytes;

use super::super::flights::Flight;
use super::super::freshness::{Memory, Said, Verdict, Word, decide};
use super::super::recent::Served;
use super::super::record::Wanted;
use super::ask::{failed_before, supported};
use super::{Manifests, policy};
use crate::upstream::UpstreamError;

impl Manifests {
    /// The attempt that is under way, or a new one; `record` what comes of it, with the tags that are known to
    /// point to it.
    pub(super) fn fetch(
        &self,
        name: &UpstreamName,
        digest: &Digest,
        record: bool,
    ) -> Flight<Result<Served, PullError>> {
        let (this, name, digest) = (self.clone(), name.clone(), *digest);
        let key = (name.local().clone(), digest);
        self.inner.fetches.join(key, move || async move {
            let fetched = this.fetch_now(&name, &digest).await;
            if record && fetched.is_ok() {
                this.record_with_tags(&name, &digest);
            }
            fetched
        })
    }

    async fn fetch_now(&self, name: &UpstreamName, digest: &Digest) -> Result<Served, PullError> {
        // Another attempt may have ended since somebody found that one is needed.
        if let Some(here) = self.here(name.local(), digest)? {
            return Ok(Served {
                digest: here.digest,
                media_type: here.media_type,
                bytes: here.bytes,
                parsed: None,
            });
        }
        let (reference, at) = (Reference::Digest(*digest), self.now());
        let memory = self.inner.words.get(name.local(), &reference);
        match decide(None, &memory, &policy(&self.rules(name)?), at) {
            Verdict::Missing => return Err(PullError::NotFound),
            Verdict::Offline => return Err(PullError::Offline),
            Verdict::Down { kind, why, retry } => return Err(failed_before(kind, why, retry)),
            Verdict::Answer { .. } | Verdict::Ask { .. } => {}
        }
        let fetched = match self.inner.parts.upstream.manifest(name, &reference).await {
            Ok(fetched) => supported(name, &fetched.media_type).map(|()| fetched),
            Err(error) => Err(error),
        };
        match fetched {
            Ok(fetched) if fetched.digest == *digest => {
                let served = Served::read(name, *digest, &fetched.media_type, fetched.bytes);
                self.inner.recent.put(name.local(), served.clone());
                Ok(served)
            }
            Ok(fetched) => {
                let why =
                    format!("upstream {}: it gave the manifest {} for {digest}", name.host(), fetched.digest);
                Err(self.note_failure(name, &reference, &UpstreamError::Bad(why)))
            }
            Err(UpstreamError::NotFound) => {
                let word = Word { said: Said::Gone, at, revision: 0, lot: 100 };
                self.inner.words.update(name.local(), &reference, |memory| {
                    *memory = Memory { word: Some(word), failure: None };
                });
                Err(PullError::NotFound)
            }
            Err(error) => Err(self.note_failure(name, &reference, &error)),
        }
    }

    /// Records it once for each tag that points to it, or for itself when none does.
    fn record_with_tags(&self, name: &UpstreamName, digest: &Digest) {
        let tags = self.inner.words.pointing_to(name.local(), digest);
        if tags.is_empty() {
            self.record(name, Wanted::manifest(*digest));
        }
        for tag in tags {
            self.record(name, Wanted { digest: *digest, tag: Some(tag) });
        }
    }
}

impl Served {
    /// Reads what an upstream gave under this type. What cannot be read is served nevertheless.
    pub(super) fn read(name: &UpstreamName, digest: Digest, media_type: &str, bytes: Bytes) -> Served {
        let parsed = match parse::parse(digest, Some(media_type), bytes.clone()) {
            Ok(parsed) => Some(Arc::new(parsed)),
            Err(error) => {
                info!(repo = %name, %digest, media_type, why = error.message(), "an upstream's manifest is not as a pushed one must be: it is served as it came, kept in memory alone, and its blobs are asked for each time; nothing to do");
                None
            }
        };
        Served { digest, media_type: media_type.to_owned(), bytes, parsed }
    }
}
