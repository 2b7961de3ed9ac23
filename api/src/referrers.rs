//! What refers to a manifest (end-12): an index of the manifests whose `subject` it is.
//!
//! Never 404: a subject nobody knows has no referrers. Clients that met a registry without this
//! API left a list under a tag instead; what it names appears here too.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Map, Value};
use trow_raft::{Algorithm, Digest, ManifestRow, RepoName, StateError, Tag, View};

use crate::error::Error;
use crate::headers;
use crate::manifest::media_type::INDEX;
use crate::manifest::parse::annotations;
use crate::page::Page;
use crate::query::Query;
use crate::reads::Reads;

/// Descriptors in one reply: clients take an index of 4 MiB.
const PAGE_BYTES: usize = 4_000_000;
/// What is read for one reply besides: manifests, for what a list under a tag leaves out, and
/// descriptors that the filter leaves out.
const READ_BYTES: usize = 16 << 20;
/// Referrers that one reply leaves out at most; where there are more, it ends with fewer
/// descriptors than asked for, or none, and says how to go on.
const LOOKED_AT: usize = 10_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    artifact_type: Option<String>,
}

/// The descriptors of one page, ascending by their digests' text.
#[derive(Default)]
struct Listed {
    shown: Vec<Bytes>,
    /// What the next page comes after, if there may be one.
    next: Option<String>,
}

/// A descriptor in a list under the fallback tag.
type Tagged = Map<String, Value>;

/// One page in the making: what is listed is made for it alone, since a subject may have many
/// referrers, and a list under a tag may name one large manifest thousands of times.
struct Making<'a> {
    view: &'a View,
    repo: &'a RepoName,
    limit: usize,
    wanted: Option<&'a str>,
    shown: Vec<Bytes>,
    /// The last one that was looked at, shown or not: the next page goes on after it.
    last: Option<String>,
    /// Whether there may be more.
    more: bool,
    looked_at: usize,
    /// Bytes shown.
    bytes: usize,
    /// Bytes read for it.
    read: usize,
}

/// GET.
pub(crate) async fn list(
    reads: &Reads,
    repo: &RepoName,
    subject: &Digest,
    query: &Query,
) -> Result<Response, Error> {
    let page = Page::parse(query)?;
    let wanted = query.get("artifactType").filter(|text| !text.is_empty());
    let found = reads.by_name(|view| listed(view, repo, subject, wanted, &page).map(Some)).await?;
    let Listed { shown, next } = found.value.unwrap_or_default();

    let mut body = format!("{{\"schemaVersion\":2,\"mediaType\":\"{INDEX}\",\"manifests\":[").into_bytes();
    for (index, descriptor) in shown.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(descriptor);
    }
    body.extend_from_slice(b"]}");
    let mut response = body.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(INDEX));
    if let Some(last) = next {
        let limit = page.limit.to_string();
        let mut parameters = vec![("n", limit.as_str()), ("last", last.as_str())];
        parameters.extend(wanted.map(|wanted| ("artifactType", wanted)));
        headers::next_page(&mut response, &format!("/v2/{repo}/referrers/{subject}"), &parameters);
    }
    if wanted.is_some() {
        headers::put(&mut response, headers::FILTERS, "artifactType");
    }
    headers::log_id(&mut response, found.at);
    headers::warning(&mut response, found.warning);
    Ok(response)
}

/// The descriptors of the referrers with this artifact type, as the first page would list them, and whether there are more.
pub(crate) fn first(
    view: &View,
    repo: &RepoName,
    subject: &Digest,
    artifact_type: &str,
    page: &Page<'_>,
) -> Result<(Vec<Bytes>, bool), StateError> {
    let Listed { shown, next } = listed(view, repo, subject, Some(artifact_type), page)?;
    Ok((shown, next.is_some()))
}

/// The page after `page.after`: rows and list are walked together, ascending by their digests' text.
fn listed<'a>(
    view: &'a View,
    repo: &'a RepoName,
    subject: &Digest,
    wanted: Option<&'a str>,
    page: &Page<'_>,
) -> Result<Listed, StateError> {
    let limit = page.limit;
    let (shown, last) = (Vec::new(), None);
    let mut making =
        Making { view, repo, limit, wanted, shown, last, more: false, looked_at: 0, bytes: 0, read: 0 };
    if limit == 0 {
        return Ok(Listed::default());
    }
    let comes = |text: &str| page.after.is_none_or(|after| text > after);
    let mut list = under_the_tag(view, repo, subject)?;
    list.retain(|text, _| comes(text));
    let mut list = list.into_iter().peekable();
    let mut on = true;
    view.referrers(repo, subject, page.after.and_then(seek).as_ref(), &mut |digest, descriptor| {
        let text = digest.to_string();
        if !comes(&text) {
            return Ok(true);
        }
        while on && let Some((before, one)) = list.next_if(|(before, _)| *before <= text) {
            // What named its subject itself is listed by that.
            on = before == text || making.tagged(before, one)?;
        }
        on = on && making.row(text, descriptor);
        Ok(on)
    })?;
    while on && let Some((text, one)) = list.next() {
        on = making.tagged(text, one)?;
    }
    let Making { shown, last, more, .. } = making;
    Ok(Listed { shown, next: last.filter(|_| more) })
}

/// Where in the rows what comes after `text` begins, or earlier. Any text may be asked for.
fn seek(text: &str) -> Option<Digest> {
    let (algorithm, hex) = [Algorithm::Sha512, Algorithm::Sha256].into_iter().find_map(|algorithm| {
        let rest = text.strip_prefix(algorithm.as_str())?;
        Some((algorithm, rest.strip_prefix(':')?))
    })?;
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let mut digits: Vec<u8> = hex.bytes().take_while(|byte| is_hex(byte)).collect();
    let beyond = hex.as_bytes().get(digits.len()).is_some_and(|byte| *byte > b'f');
    digits.resize(2 * algorithm.size(), if beyond { b'f' } else { b'0' });
    let digits = String::from_utf8(digits).ok()?;
    format!("{}:{digits}", algorithm.as_str()).parse().ok()
}

impl Making<'_> {
    /// Takes a referrer that named its subject when it was pushed; whether to go on.
    fn row(&mut self, text: String, descriptor: &[u8]) -> bool {
        if let Some(wanted) = self.wanted {
            self.read += descriptor.len();
            let read = serde_json::from_slice::<Descriptor>(descriptor).ok();
            if read.and_then(|read| read.artifact_type).as_deref() != Some(wanted) {
                return self.pass(text);
            }
        }
        self.show(text, Bytes::copy_from_slice(descriptor))
    }

    /// Takes what is listed under the tag; whether to go on.
    fn tagged(&mut self, text: String, tagged: Tagged) -> Result<bool, StateError> {
        let Ok(digest) = text.parse::<Digest>() else { return Ok(self.pass(text)) };
        // Of manifests that are here: the list of a deleted referrer must not bring it back.
        let Some(row) = self.view.manifest(self.repo, &digest)? else { return Ok(self.pass(text)) };
        let said = tagged.get("artifactType").and_then(Value::as_str);
        if self.wanted.is_some() && row.artifact_type.as_deref().or(said) != self.wanted {
            return Ok(self.pass(text));
        }
        if self.shown.len() == self.limit {
            self.more = true;
            return Ok(false);
        }
        let descriptor = completed(self.view, tagged, &digest, row, &mut self.read)?;
        Ok(self.show(text, descriptor))
    }

    /// Leaves one out. A page that costs more than it may ends here, however little it shows.
    fn pass(&mut self, text: String) -> bool {
        self.last = Some(text);
        self.looked_at += 1;
        self.more = self.looked_at >= LOOKED_AT || self.read > READ_BYTES;
        !self.more
    }

    /// Shows one if it fits into the page.
    fn show(&mut self, text: String, descriptor: Bytes) -> bool {
        self.bytes += descriptor.len() + 1;
        // At least one, however large, or paging would not get past it.
        let full = self.bytes > PAGE_BYTES || self.read > READ_BYTES;
        if self.shown.len() == self.limit || (full && !self.shown.is_empty()) {
            self.more = true;
            return false;
        }
        self.shown.push(descriptor);
        self.last = Some(text);
        true
    }
}

/// What the index under the fallback tag lists, by the digests' text. The tag is the distribution-spec's "Referrers Tag Schema":
/// `<algorithm>-<hex>`, at most 64 digits of it.
fn under_the_tag(
    view: &View,
    repo: &RepoName,
    subject: &Digest,
) -> Result<BTreeMap<String, Tagged>, StateError> {
    let mut all = BTreeMap::new();
    let hex: String = subject.hex().chars().take(64).collect();
    let Ok(tag) = format!("{}-{hex}", subject.algorithm().as_str()).parse::<Tag>() else {
        return Ok(all);
    };
    let Some(row) = view.tag(repo, &tag)? else { return Ok(all) };
    let index = view.body(&row.digest)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(Value::Object(mut index)) = index else { return Ok(all) };
    let Some(Value::Array(descriptors)) = index.remove("manifests") else { return Ok(all) };
    for descriptor in descriptors {
        let Value::Object(descriptor) = descriptor else { continue };
        if let Some(text) = descriptor.get("digest").and_then(Value::as_str) {
            all.entry(text.to_owned()).or_insert(descriptor);
        }
    }
    Ok(all)
}

/// The descriptor with what the manifest itself says: clients that keep a list under a tag leave
/// out what they need not, and may be wrong. `read` counts the bytes that were read for it.
fn completed(
    view: &View,
    mut descriptor: Tagged,
    digest: &Digest,
    row: ManifestRow,
    read: &mut usize,
) -> Result<Bytes, StateError> {
    descriptor.insert("mediaType".into(), row.media_type.into());
    descriptor.insert("size".into(), row.size.into());
    if let Some(artifact_type) = row.artifact_type {
        descriptor.insert("artifactType".into(), artifact_type.into());
    }
    if !descriptor.contains_key("annotations") {
        let bytes = view.body(digest)?.unwrap_or_default();
        *read += bytes.len();
        let annotations: Map<_, _> =
            annotations(&bytes).into_iter().map(|(key, value)| (key, Value::from(value))).collect();
        if !annotations.is_empty() {
            descriptor.insert("annotations".into(), annotations.into());
        }
    }
    Ok(Bytes::from(Value::Object(descriptor).to_string()))
}
