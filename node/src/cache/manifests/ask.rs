//! Asking an upstream what a reference is, one request at a time whoever asks.
//!
//! A tag that moved has the new manifest fetched before its new place is believed, so that there is always
//! something to answer with. Always holds: the tag's revision is read before the upstream is asked; what becomes
//! of the answer is bound to it.

use std::time::{Duration, Instant};

use rand::Rng as _;
use tracing::{debug, info, warn};
use trow_api::pull::{PullError, UpstreamName};
use trow_api::route::Reference;
use trow_raft::{Digest, Tag};

use super::super::flights::Flight;
use super::super::freshness::{Failure, Kind, Memory, NEGATIVE, Row, Said, Verdict, Word, decide};
use super::super::meter::Checked;
use super::super::recent::Served;
use super::super::record::Wanted;
use super::{Manifests, policy};
use crate::upstream::{Described, UpstreamError};

/// Nobody asks again sooner after an upstream failed, nor waits longer to do so.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// When to ask again after an upstream contradicted itself.
const CONTRADICTED: Duration = Duration::from_secs(2);
/// A word is believed for this percentage of the freshness, drawn anew for each.
const LOT: std::ops::RangeInclusive<u8> = 80..=100;

impl Manifests {
    /// The attempt that is under way, or a new one. Its word is in the memory once it is over.
    pub(super) fn ask(&self, name: &UpstreamName, reference: &Reference) -> Flight<Result<(), PullError>> {
        let (this, name, reference) = (self.clone(), name.clone(), reference.clone());
        let key = (name.local().clone(), reference.clone());
        self.inner.asks.join(key, move || async move { this.attempt(&name, &reference).await })
    }

    async fn attempt(&self, name: &UpstreamName, reference: &Reference) -> Result<(), PullError> {
        let parts = &self.inner.parts;
        let rules = self.rules(name)?;
        let row = match reference {
            Reference::Tag(tag) => self.row(name.local(), tag)?,
            Reference::Digest(_) => None,
        };
        let (memory, at) = (self.inner.words.get(name.local(), reference), self.now());
        // Another attempt may have ended since somebody found that one is needed.
        match decide(row, &memory, &policy(&rules), at) {
            Verdict::Answer { stale: None, refresh: false, .. } | Verdict::Missing => return Ok(()),
            Verdict::Answer { refresh: true, .. } | Verdict::Ask { .. } => {}
            Verdict::Answer { refresh: false, .. } => {
                if let Some(failure) = memory.failure.filter(|failure| at < failure.until) {
                    let retry = failure.until.saturating_duration_since(at);
                    return Err(failed_before(failure.kind, failure.why, retry));
                }
                return Ok(());
            }
            Verdict::Offline => return Err(PullError::Offline),
            Verdict::Down { kind, why, retry } => return Err(failed_before(kind, why, retry)),
        }
        let heard = match parts.upstream.describe(name, reference).await {
            Ok(described) => self.heard(name, reference, described, (row, at), &memory).await,
            Err(UpstreamError::NotFound) => {
                self.gone(name, reference, row, at, rules.follow_deletes);
                Ok(())
            }
            Err(error) => Err(error),
        };
        heard.map_err(|error| {
            let tag = matches!(reference, Reference::Tag(_));
            if tag {
                self.inner.meter.checked(Checked::Failed);
            }
            self.note_failure(name, reference, &error)
        })
    }

    /// Takes the upstream's word.
    async fn heard(
        &self,
        name: &UpstreamName,
        reference: &Reference,
        described: Described,
        (row, at): (Option<Row>, Instant),
        memory: &Memory,
    ) -> Result<(), UpstreamError> {
        let Described { digest, media_type, size, bytes } = described;
        supported(name, &media_type)?;
        if let Some(bytes) = bytes {
            self.inner.recent.put(name.local(), Served::read(name, digest, &media_type, bytes));
        }
        let before = match memory.valid(row).map(|word| &word.said) {
            Some(Said::Is { digest, .. }) => Some(*digest),
            _ => row.map(|row| row.digest),
        };
        // Somebody may ask for what is cached of it: then the new one is cached before it is told of.
        let cached = before.filter(|before| self.is_here(name, before));
        let moved = cached.is_some_and(|cached| cached != digest);
        if moved && !self.is_here(name, &digest) {
            let fetched = self.fetch(name, &digest, false).outcome().await;
            match fetched {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(contradicted(name, error)),
                None => return Ok(()),
            }
        }
        let lot = rand::rng().random_range(LOT);
        let said = Said::Is { digest, media_type, size };
        let word = Word { said, at, revision: row.map_or(0, |row| row.revision), lot };
        self.inner.words.update(name.local(), reference, |memory| {
            *memory = Memory { word: Some(word), failure: None };
        });
        let Reference::Tag(tag) = reference else { return Ok(()) };
        self.inner.meter.checked(if before == Some(digest) { Checked::Same } else { Checked::Moved });
        if row.is_none_or(|row| row.digest != digest) && self.is_here(name, &digest) {
            let revision = row.map_or(0, |row| row.revision);
            self.record(name, Wanted { digest, tag: Some((tag.clone(), revision)) });
        }
        Ok(())
    }

    /// The upstream has it no longer, or never had.
    fn gone(&self, name: &UpstreamName, reference: &Reference, row: Option<Row>, at: Instant, follow: bool) {
        let revision = row.map_or(0, |row| row.revision);
        let word = Word { said: Said::Gone, at, revision, lot: *LOT.end() };
        self.inner.words.update(name.local(), reference, |memory| {
            *memory = Memory { word: Some(word), failure: None };
        });
        let Reference::Tag(tag) = reference else { return };
        self.inner.meter.checked(Checked::Gone);
        if let (Some(row), true) = (row, follow) {
            info!(repo = %name, %tag, "the upstream deleted a tag, and so does this cluster: upstream.follow_deletes = true");
            self.inner.recorder.delete_tag(name.local(), tag, row.digest);
        }
    }

    /// Remembers that it failed, for as long as nobody should ask again.
    pub(super) fn note_failure(
        &self,
        name: &UpstreamName,
        reference: &Reference,
        error: &UpstreamError,
    ) -> PullError {
        let (kind, why, pause) = match error {
            UpstreamError::NotFound => return PullError::NotFound,
            UpstreamError::Unavailable { why, retry } => {
                (Kind::Unavailable, why.clone(), (*retry).clamp(PAUSE.0, PAUSE.1))
            }
            UpstreamError::Denied(why) => (Kind::Denied, why.clone(), NEGATIVE),
            UpstreamError::Bad(why) => (Kind::Bad, why.clone(), NEGATIVE),
        };
        debug!(repo = %name, %reference, why, "an upstream gave no answer");
        let failure = Failure { kind, why, until: self.now() + pause };
        self.inner.words.update(name.local(), reference, |memory| memory.failure = Some(failure));
        pull_error(error.clone())
    }

    /// Records a manifest that is here, and the tag that it was found by, without waiting for it.
    pub(super) fn record(&self, name: &UpstreamName, wanted: Wanted) {
        let found = match self.inner.recent.get(name.local(), &wanted.digest) {
            Some(served) => Some(served),
            None => match self.here(name.local(), &wanted.digest) {
                Ok(here) => here.map(|here| Served::read(name, here.digest, &here.media_type, here.bytes)),
                Err(_) => return,
            },
        };
        let Some(served) = found else { return };
        let (this, repo) = (self.clone(), name.local());
        let name = name.clone();
        self.inner.recorder.record(repo, &served, wanted.clone(), self.now(), move |outcome| {
            // The state has it, and memory need not.
            this.is_here(&name, &wanted.digest);
            if let Some((tag, _)) = wanted.tag {
                this.recorded(&name, &tag, &wanted.digest, outcome);
            }
        });
    }

    /// The tag is recorded at `revision`; or, without one, it moved since the upstream was asked, which makes
    /// that word one that nobody should believe.
    fn recorded(&self, name: &UpstreamName, tag: &Tag, is: &Digest, revision: Option<u64>) {
        let reference = Reference::Tag(tag.clone());
        self.inner.words.update(name.local(), &reference, |memory| {
            let about = |word: &Word| matches!(&word.said, Said::Is { digest, .. } if digest == is);
            match (revision, memory.word.as_mut().filter(|word| about(word))) {
                (Some(revision), Some(word)) => word.revision = word.revision.max(revision),
                (None, Some(_)) => memory.word = None,
                (_, None) => {}
            }
        });
    }

    pub(super) fn is_here(&self, name: &UpstreamName, digest: &Digest) -> bool {
        matches!(self.here(name.local(), digest), Ok(Some(_)))
    }
}

/// Docker's first schema is signed text that no client of today reads.
pub(super) fn supported(name: &UpstreamName, media_type: &str) -> Result<(), UpstreamError> {
    const FIRST: &str = "application/vnd.docker.distribution.manifest.v1+";
    if !media_type.starts_with(FIRST) {
        return Ok(());
    }
    let why = format!(
        "upstream {}: {} is a Docker image of schema version 1, which is not supported; it must be built or pushed \
         anew",
        name.host(),
        name.repo()
    );
    warn!(repo = %name, media_type, "an upstream gave a manifest of Docker's schema version 1, and the client was refused; nothing to do here");
    Err(UpstreamError::Bad(why))
}

/// What was described cannot be had.
fn contradicted(name: &UpstreamName, error: PullError) -> UpstreamError {
    match error {
        PullError::Unavailable { why, retry } => UpstreamError::Unavailable { why, retry },
        PullError::Bad(why) => UpstreamError::Bad(why),
        PullError::Denied(why) => UpstreamError::Denied(why),
        _ => {
            let why = format!("upstream {}: it names a manifest that it does not give", name.host());
            UpstreamError::Unavailable { why, retry: CONTRADICTED }
        }
    }
}

/// What somebody is told who comes while nobody should ask again: the same as who asked.
pub(super) fn failed_before(kind: Kind, why: String, retry: Duration) -> PullError {
    match kind {
        Kind::Unavailable => PullError::Unavailable { why, retry },
        Kind::Denied => PullError::Denied(why),
        Kind::Bad => PullError::Bad(why),
    }
}

/// As the API is told.
pub(in super::super) fn pull_error(error: UpstreamError) -> PullError {
    match error {
        UpstreamError::NotFound => PullError::NotFound,
        UpstreamError::Denied(why) => PullError::Denied(why),
        UpstreamError::Unavailable { why, retry } => PullError::Unavailable { why, retry },
        UpstreamError::Bad(why) => PullError::Bad(why),
    }
}
