//! Lists of an upstream's repository: relayed as it gives them, and of what is cached when it does not answer.
//!
//! Always holds: a list of what is cached says that it may be old or not whole. Never does: keep lists.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::timeout;
use trow_api::pull::{PullError, Relayed, UpstreamName};
use trow_api::route::Reference;
use trow_raft::{Digest, StateError, Tag, View};

use super::manifests::{Manifests, failed};
use crate::peer_blobs::wire::List;
use crate::upstream::{Listed, UpstreamError};

/// How long an upstream has for a list, before that of what is cached is given.
const WAIT: Duration = Duration::from_secs(10);
/// When to come back after that.
const RETRY: Duration = Duration::from_secs(5);
/// The most that one list has.
const PAGE_MAX: usize = 10_000;
/// Bytes of descriptors in a list: clients take an index of 4 MiB.
const PAGE_BYTES: usize = 4_000_000;
/// The type of a list of referrers.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Manifests {
    /// A list, as the upstream gives it; of what is cached when it does not answer.
    ///
    /// # Errors
    /// As [`PullError`] says.
    pub(super) async fn list_now(&self, name: &UpstreamName, list: &List) -> Result<Relayed, PullError> {
        match list {
            List::Tags { n, last } => self.tags_now(name, *n, last.as_deref()).await,
            List::Referrers { subject, artifact_type } => {
                self.referrers_now(name, subject, artifact_type.as_deref()).await
            }
        }
    }

    async fn tags_now(
        &self,
        name: &UpstreamName,
        n: Option<usize>,
        last: Option<&str>,
    ) -> Result<Relayed, PullError> {
        let why = match self.may_ask(name)? {
            Ok(()) => match within(name, self.upstream().tags(name, n, last)).await {
                Ok(listed) => return Ok(relayed(listed)),
                Err(error) => error,
            },
            Err(why) => why,
        };
        let limit = n.unwrap_or(PAGE_MAX).min(PAGE_MAX);
        let mut tags = self.view()?.tags(name.local(), last, limit + 1).map_err(failed)?;
        if tags.is_empty() && last.is_none() {
            return Err(why.error);
        }
        let more = tags.len() > limit;
        tags.truncate(limit);
        let next = tags.last().filter(|_| more).map(|tag| tag.as_str().to_owned());
        let json = json!({ "name": name.repo(), "tags": tags }).to_string().into();
        Ok(Relayed { json, next, filtered: false, stale: Some(why.text) })
    }

    async fn referrers_now(
        &self,
        name: &UpstreamName,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Relayed, PullError> {
        let why = match self.may_ask(name)? {
            Ok(()) => match within(name, self.upstream().referrers(name, subject, artifact_type)).await {
                Ok(listed) => return Ok(relayed(listed)),
                Err(Without { error: PullError::NotFound, .. }) => {
                    match self.under_the_tag(name, subject).await {
                        Ok(relayed) => return Ok(relayed),
                        Err(error) => Without::of(name, error),
                    }
                }
                Err(why) => why,
            },
            Err(why) => why,
        };
        let shown = cached(&self.view()?, name, subject, artifact_type).map_err(failed)?;
        if shown.is_empty() {
            return Err(why.error);
        }
        Ok(Relayed {
            json: index(shown),
            next: None,
            filtered: artifact_type.is_some(),
            stale: Some(why.text),
        })
    }

    /// Whether the upstream may be asked, or what there is to say without.
    fn may_ask(&self, name: &UpstreamName) -> Result<Result<(), Without>, PullError> {
        let rules = self.rules(name)?;
        Ok(if rules.offline { Err(Without::of(name, PullError::Offline)) } else { Ok(()) })
    }

    /// The index under the tag that is the distribution-spec's "Referrers Tag Schema"; an empty one where there
    /// is no such tag.
    async fn under_the_tag(&self, name: &UpstreamName, subject: &Digest) -> Result<Relayed, PullError> {
        let empty = || Relayed { json: index(vec![]), next: None, filtered: false, stale: None };
        let Some(tag) = fallback(subject) else { return Ok(empty()) };
        let pulled = match self.manifest(name, &Reference::Tag(tag), false).await {
            Ok(pulled) => pulled,
            Err(PullError::NotFound) => return Ok(empty()),
            Err(error) => return Err(error),
        };
        let list = pulled.bytes.as_deref().and_then(descriptors).unwrap_or_default();
        let shown = list.into_iter().map(|one| one.to_string()).collect();
        Ok(Relayed { json: index(shown), next: None, filtered: false, stale: pulled.stale })
    }
}

/// Why what is cached is listed.
struct Without {
    error: PullError,
    /// For the mark of what is given instead.
    text: String,
}

impl Without {
    fn of(name: &UpstreamName, error: PullError) -> Without {
        let host = name.host();
        let text = match &error {
            PullError::Offline => format!("upstream {host}: not asked, upstream.offline = true"),
            PullError::NotFound => format!("upstream {host}: it is not there any more"),
            PullError::Unavailable { why, .. } | PullError::Bad(why) | PullError::Denied(why) => why.clone(),
            PullError::LoginNeeded | PullError::Range { .. } | PullError::Failed => {
                format!("upstream {host}: it was not asked")
            }
        };
        Without { error, text }
    }
}

async fn within<T>(
    name: &UpstreamName,
    asked: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, Without> {
    let answer = timeout(WAIT, asked).await.unwrap_or_else(|_| {
        let why = format!("upstream {}: no list within {} s", name.host(), WAIT.as_secs());
        Err(UpstreamError::Unavailable { why, retry: RETRY })
    });
    answer.map_err(|error| Without::of(name, super::manifests::pull_error(error)))
}

fn relayed(listed: Listed) -> Relayed {
    let Listed { json, next, filtered } = listed;
    Relayed { json, next, filtered, stale: None }
}

/// The tag under which clients leave a list of referrers: `<algorithm>-<hex>`, at most 64 digits of it.
fn fallback(subject: &Digest) -> Option<Tag> {
    let hex: String = subject.hex().chars().take(64).collect();
    format!("{}-{hex}", subject.algorithm().as_str()).parse().ok()
}

/// What an index lists.
fn descriptors(bytes: &[u8]) -> Option<Vec<Value>> {
    let Value::Object(mut index) = serde_json::from_slice(bytes).ok()? else { return None };
    let Value::Array(list) = index.remove("manifests")? else { return None };
    Some(list.into_iter().filter(Value::is_object).collect())
}

/// The referrers that are cached, each once, as much as fits one list.
fn cached(
    view: &View,
    name: &UpstreamName,
    subject: &Digest,
    wanted: Option<&str>,
) -> Result<Vec<String>, StateError> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut bytes = 0;
    let is_wanted = |one: &Value| {
        wanted.is_none_or(|wanted| one.get("artifactType").and_then(Value::as_str) == Some(wanted))
    };
    view.referrers(name.local(), subject, None, &mut |digest, descriptor| {
        let one = serde_json::from_slice::<Value>(descriptor).ok().filter(is_wanted);
        if let Some(text) = one.map(|one| one.to_string()) {
            bytes += text.len() + 1;
            found.insert(digest.to_string(), text);
        }
        Ok(bytes < PAGE_BYTES && found.len() < PAGE_MAX)
    })?;
    let row = match fallback(subject) {
        Some(tag) => view.tag(name.local(), &tag)?,
        None => None,
    };
    let list = match row {
        Some(row) => view.body(&row.digest)?,
        None => None,
    };
    for one in list.as_deref().and_then(descriptors).into_iter().flatten().filter(is_wanted) {
        let Some(digest) = one.get("digest").and_then(Value::as_str) else { continue };
        if bytes >= PAGE_BYTES || found.contains_key(digest) {
            continue;
        }
        let text = one.to_string();
        bytes += text.len() + 1;
        found.insert(digest.to_owned(), text);
    }
    Ok(found.into_values().collect())
}

/// An index of these descriptors.
fn index(descriptors: Vec<String>) -> Bytes {
    let list = descriptors.join(",");
    format!("{{\"schemaVersion\":2,\"mediaType\":\"{INDEX}\",\"manifests\":[{list}]}}").into()
}
