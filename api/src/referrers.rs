//! What refers to a manifest (end-12): an index of the manifests whose `subject` it is.
//!
//! Never 404: a subject nobody knows has no referrers. Clients that met a registry without this
//! API left a list under a tag instead; what it names appears here too.

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Map, Value};
use trow_raft::{Digest, ManifestRow, RepoName, StateError, Tag, View};

use crate::error::Error;
use crate::headers;
use crate::manifest::media_type::INDEX;
use crate::manifest::parse::annotations;
use crate::page::Page;
use crate::query::Query;
use crate::reads::Reads;

/// Descriptors in one reply: clients take an index of 4 MiB.
const PAGE_BYTES: usize = 4_000_000;
/// Manifests that are read for one reply, for what a list under a tag leaves out.
const READ_BYTES: usize = 16 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: Digest,
    artifact_type: Option<String>,
}

/// Where a referrer was found. What is listed is made for the page alone: a subject may have many
/// referrers, and a list under a tag may name one large manifest thousands of times.
enum Source {
    /// It named its subject when it was pushed.
    Row(Digest),
    /// It is in the list under the fallback tag, with this descriptor.
    Tag(Box<(Digest, Map<String, Value>, ManifestRow)>),
}

/// The descriptors of one page, ascending by their digests' text, and whether there are more.
#[derive(Default)]
struct Listed {
    shown: Vec<(String, Bytes)>,
    more: bool,
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
    let Listed { shown, more } = found.value.unwrap_or_default();

    let mut body = format!("{{\"schemaVersion\":2,\"mediaType\":\"{INDEX}\",\"manifests\":[").into_bytes();
    for (index, (_, descriptor)) in shown.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(descriptor);
    }
    body.extend_from_slice(b"]}");
    let mut response = body.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(INDEX));
    if let (Some((last, _)), true) = (shown.last(), more) {
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

fn listed(
    view: &View,
    repo: &RepoName,
    subject: &Digest,
    wanted: Option<&str>,
    page: &Page<'_>,
) -> Result<Listed, StateError> {
    let all = sources(view, repo, subject, wanted, page.after)?;
    let mut listed = Listed { more: all.len() > page.limit, ..Listed::default() };
    let (mut bytes, mut read) = (0, 0);
    for (text, source) in all.into_iter().take(page.limit) {
        let descriptor = match source {
            Source::Row(digest) => match view.referrer(repo, subject, &digest)? {
                Some(descriptor) => descriptor,
                None => continue,
            },
            Source::Tag(found) => {
                let (digest, descriptor, row) = *found;
                completed(view, descriptor, &digest, row, &mut read)?
            }
        };
        bytes += descriptor.len() + 1;
        // At least one, however large, or paging would not get past it.
        if !listed.shown.is_empty() && (bytes > PAGE_BYTES || read > READ_BYTES) {
            listed.more = true;
            break;
        }
        listed.shown.push((text, descriptor));
    }
    Ok(listed)
}

/// What refers to the subject and comes after `after`, by its digest's text, each once.
fn sources(
    view: &View,
    repo: &RepoName,
    subject: &Digest,
    wanted: Option<&str>,
    after: Option<&str>,
) -> Result<BTreeMap<String, Source>, StateError> {
    let listed = |text: &str, artifact_type: Option<&str>| {
        after.is_none_or(|after| text > after) && wanted.is_none_or(|wanted| artifact_type == Some(wanted))
    };
    let mut all = BTreeMap::new();
    view.each_referrer(repo, subject, &mut |descriptor| {
        if let Ok(read) = serde_json::from_slice::<Descriptor>(descriptor) {
            let text = read.digest.to_string();
            if listed(&text, read.artifact_type.as_deref()) {
                all.insert(text, Source::Row(read.digest));
            }
        }
    })?;
    let Some(index) = under_the_tag(view, repo, subject)? else { return Ok(all) };
    for descriptor in index["manifests"].as_array().into_iter().flatten() {
        let Some(descriptor) = descriptor.as_object() else { continue };
        let text = descriptor.get("digest").and_then(Value::as_str).unwrap_or_default();
        let Ok(digest) = text.parse::<Digest>() else { continue };
        if all.contains_key(text) {
            continue;
        }
        // Of manifests that are here: the list of a deleted referrer must not bring it back.
        let Some(row) = view.manifest(repo, &digest)? else { continue };
        let said = descriptor.get("artifactType").and_then(Value::as_str);
        if listed(text, row.artifact_type.as_deref().or(said)) {
            all.insert(text.to_owned(), Source::Tag(Box::new((digest, descriptor.clone(), row))));
        }
    }
    Ok(all)
}

/// The index under the fallback tag. The tag is the distribution-spec's "Referrers Tag Schema":
/// `<algorithm>-<hex>`, at most 64 digits of it.
fn under_the_tag(view: &View, repo: &RepoName, subject: &Digest) -> Result<Option<Value>, StateError> {
    let hex: String = subject.hex().chars().take(64).collect();
    let Ok(tag) = format!("{}-{hex}", subject.algorithm().as_str()).parse::<Tag>() else {
        return Ok(None);
    };
    let Some(row) = view.tag(repo, &tag)? else { return Ok(None) };
    Ok(view.body(&row.digest)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// The descriptor with what the manifest itself says: clients that keep a list under a tag leave
/// out what they need not, and may be wrong. `read` counts the bytes that were read for it.
fn completed(
    view: &View,
    mut descriptor: Map<String, Value>,
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
