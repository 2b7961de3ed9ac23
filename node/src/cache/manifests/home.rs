//! Finding out on behalf of all: what the home of a repository does.

use trow_api::pull::{PullError, Pulled, UpstreamName};
use trow_api::route::Reference;
use trow_raft::Digest;

use super::super::freshness::{Row, Said, Stale, Verdict, decide};
use super::super::record::Wanted;
use super::ask::failed_before;
use super::{COLD_WAIT, Manifests, REFRESH_WAIT, RETRY, policy};
use crate::upstream::Rules;

/// What somebody asks for.
#[derive(Clone, Copy)]
struct Asked<'a> {
    name: &'a UpstreamName,
    reference: &'a Reference,
    head: bool,
    rules: &'a Rules,
}

impl Manifests {
    /// Decides by what is cached and remembered here, and asks the upstream if need be.
    pub(super) async fn find_out(
        &self,
        name: &UpstreamName,
        reference: &Reference,
        head: bool,
        rules: &Rules,
    ) -> Result<Pulled, PullError> {
        let asked = Asked { name, reference, head, rules };
        match reference {
            Reference::Digest(digest) => self.by_digest(asked, digest).await,
            Reference::Tag(tag) => {
                let row = self.row(name.local(), tag)?;
                self.by_tag(asked, row).await
            }
        }
    }

    async fn by_digest(&self, asked: Asked<'_>, digest: &Digest) -> Result<Pulled, PullError> {
        let Asked { name, reference, head, rules } = asked;
        if let Some(here) = self.here(name.local(), digest)? {
            if here.recorded.is_none() {
                self.record(name, Wanted::manifest(*digest));
            }
            return Ok(here.pulled(head));
        }
        if rules.offline {
            return Err(PullError::Offline);
        }
        if !head {
            return self.fetched(name, digest).await;
        }
        let memory = self.inner.words.get(name.local(), reference);
        match decide(None, &memory, &policy(rules), self.now()) {
            Verdict::Answer { stale: None, .. } => {}
            Verdict::Answer { .. } | Verdict::Ask { .. } => self.asked(asked).await?,
            Verdict::Missing => return Err(PullError::NotFound),
            Verdict::Offline => return Err(PullError::Offline),
            Verdict::Down { kind, why, retry } => return Err(failed_before(kind, why, retry)),
        }
        self.described(asked).await
    }

    async fn by_tag(&self, asked: Asked<'_>, row: Option<Row>) -> Result<Pulled, PullError> {
        let Asked { name, reference, rules, .. } = asked;
        let memory = self.inner.words.get(name.local(), reference);
        match decide(row, &memory, &policy(rules), self.now()) {
            Verdict::Answer { digest, stale, refresh } => {
                if refresh {
                    drop(self.ask(name, reference));
                }
                self.answer(asked, &digest, stale).await
            }
            Verdict::Ask { instead: None } => {
                self.asked(asked).await?;
                self.described(asked).await
            }
            Verdict::Ask { instead: Some(digest) } => self.refreshed(asked, &digest).await,
            Verdict::Missing => Err(PullError::NotFound),
            Verdict::Offline => Err(PullError::Offline),
            Verdict::Down { kind, why, retry } => Err(failed_before(kind, why, retry)),
        }
    }

    /// Waits for the upstream, but gives `cached` when that takes too long or comes to nothing.
    async fn refreshed(&self, asked: Asked<'_>, cached: &Digest) -> Result<Pulled, PullError> {
        let flight = self.ask(asked.name, asked.reference);
        let (why, error) = match flight.clone().within(REFRESH_WAIT).await {
            Some(Ok(())) => return self.described(asked).await,
            Some(Err(error)) => (error.to_string(), Some(error)),
            None => {
                let wait = REFRESH_WAIT.as_secs();
                (format!("upstream {}: no answer within {wait} s", asked.name.host()), None)
            }
        };
        match (self.answer(asked, cached, Some(Stale::Failed(why))).await, error) {
            (Ok(pulled), _) => Ok(pulled),
            (Err(_), Some(error)) => Err(error),
            // There is nothing to give but what the upstream may say yet.
            (Err(_), None) => {
                self.asked(asked).await?;
                self.described(asked).await
            }
        }
    }

    /// Waits for the upstream's word.
    async fn asked(&self, asked: Asked<'_>) -> Result<(), PullError> {
        let Asked { name, reference, .. } = asked;
        self.ask(name, reference).within(COLD_WAIT).await.unwrap_or_else(|| Err(slow(name)))
    }

    /// Answers with the upstream's word, which came just now, unless somebody recorded a later one meanwhile.
    async fn described(&self, asked: Asked<'_>) -> Result<Pulled, PullError> {
        let Asked { name, reference, rules, .. } = asked;
        let row = match reference {
            Reference::Digest(_) => None,
            Reference::Tag(tag) => self.row(name.local(), tag)?,
        };
        let memory = self.inner.words.get(name.local(), reference);
        match (memory.valid(row).map(|word| &word.said), row) {
            (Some(Said::Is { digest, .. }), _) => self.answer(asked, digest, None).await,
            (Some(Said::Gone), Some(row)) if !rules.follow_deletes => {
                self.answer(asked, &row.digest, Some(Stale::Deleted)).await
            }
            (Some(Said::Gone), _) => Err(PullError::NotFound),
            (None, Some(row)) => self.answer(asked, &row.digest, None).await,
            (None, None) => Err(slow(name)),
        }
    }

    /// Answers with the manifest `digest`, which is cached or was described by the upstream.
    async fn answer(
        &self,
        asked: Asked<'_>,
        digest: &Digest,
        stale: Option<Stale>,
    ) -> Result<Pulled, PullError> {
        let Asked { name, reference, head, .. } = asked;
        // Whoever is told that it is there comes for the rest of it next.
        let is_promised = head && matches!(stale, Some(Stale::Failed(_) | Stale::Offline));
        if is_promised && !self.is_complete(name.local(), digest).await? {
            return Err(without(name, stale));
        }
        let here = self.here(name.local(), digest)?.map(|here| here.pulled(head));
        let mut pulled = match here {
            Some(here) => here,
            None if head => match self.inner.words.get(name.local(), reference).word.map(|word| word.said) {
                Some(Said::Is { digest: is, media_type, size }) if is == *digest => {
                    // At a limit that HEADs do not count for, a client goes elsewhere at once rather than
                    // with a digest that it does not get.
                    if stale.is_none() {
                        self.upstream().may_fetch(name).map_err(super::pull_error)?;
                    }
                    let index = self.view()?.applied().map_err(super::failed)?;
                    Pulled { digest: is, media_type, size, bytes: None, index, stale: None }
                }
                _ => return Err(without(name, stale)),
            },
            None if matches!(stale, None | Some(Stale::Deleted)) => self.fetched(name, digest).await?,
            None => return Err(without(name, stale)),
        };
        if let Reference::Tag(tag) = reference {
            let view = self.view()?;
            let row = view.tag(name.local(), tag).map_err(super::failed)?;
            let moved = row.filter(|row| row.digest == *digest).map(|row| row.revision);
            pulled.index = match moved {
                Some(revision) => revision,
                None => view.applied().map_err(super::failed)?,
            };
        }
        pulled.stale = stale.map(|stale| said(name, stale));
        Ok(pulled)
    }

    /// A manifest from the upstream, waited for.
    async fn fetched(&self, name: &UpstreamName, digest: &Digest) -> Result<Pulled, PullError> {
        let fetched = self.fetch(name, digest, true).within(COLD_WAIT).await;
        let served = fetched.unwrap_or_else(|| Err(slow(name)))?;
        let index = self.view()?.applied().map_err(super::failed)?;
        let size = served.bytes.len() as u64;
        let (digest, media_type) = (served.digest, served.media_type);
        Ok(Pulled { digest, media_type, size, bytes: Some(served.bytes), index, stale: None })
    }
}

/// How a stale answer is marked.
fn said(name: &UpstreamName, stale: Stale) -> String {
    match stale {
        Stale::Offline => format!("upstream {}: not asked, upstream.offline = true", name.host()),
        Stale::Deleted => format!("upstream {}: it is not there any more", name.host()),
        Stale::Failed(why) => why,
    }
}

/// There is nothing to answer with, since the upstream cannot be asked.
fn without(name: &UpstreamName, stale: Option<Stale>) -> PullError {
    match stale {
        Some(Stale::Offline) => PullError::Offline,
        Some(Stale::Failed(why)) => PullError::Unavailable { why, retry: RETRY },
        Some(Stale::Deleted) => PullError::NotFound,
        None => slow(name),
    }
}

fn slow(name: &UpstreamName) -> PullError {
    let why = format!("upstream {}: no answer yet", name.host());
    PullError::Unavailable { why, retry: RETRY }
}
