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

/// A descriptor that can be listed, by its digest's text.
type Listed = BTreeMap<String, Bytes>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: Digest,
    artifact_type: Option<String>,
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
    let found = reads.by_name(|view| referrers(view, repo, subject, wanted).map(Some)).await?;
    let listed = found.value.unwrap_or_default();
    let rest: Vec<_> =
        listed.iter().filter(|(digest, _)| page.after.is_none_or(|after| digest.as_str() > after)).collect();
    let mut bytes = 0;
    // At least one, however large, or paging would not get past it.
    let fits = |index: usize, descriptor: &Bytes, bytes: &mut usize| {
        *bytes += descriptor.len() + 1;
        index < page.limit && (index == 0 || *bytes <= PAGE_BYTES)
    };
    let shown: Vec<_> = rest
        .iter()
        .enumerate()
        .take_while(|(index, (_, d))| fits(*index, d, &mut bytes))
        .map(|(_, e)| *e)
        .collect();

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
    if let (Some((last, _)), true) = (shown.last(), shown.len() < rest.len()) {
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

fn referrers(
    view: &View,
    repo: &RepoName,
    subject: &Digest,
    wanted: Option<&str>,
) -> Result<Listed, StateError> {
    let mut listed = Listed::new();
    for descriptor in view.referrers(repo, subject)?.into_iter().chain(under_the_tag(view, repo, subject)?) {
        let Ok(read) = serde_json::from_slice::<Descriptor>(&descriptor) else { continue };
        if wanted.is_none_or(|wanted| read.artifact_type.as_deref() == Some(wanted)) {
            listed.entry(read.digest.to_string()).or_insert(descriptor);
        }
    }
    Ok(listed)
}

/// The descriptors in the index under the fallback tag, of manifests that are here: the list of a
/// deleted referrer must not bring it back. The tag is the distribution-spec's "Referrers Tag
/// Schema": `<algorithm>-<hex>`, at most 64 digits of it.
fn under_the_tag(view: &View, repo: &RepoName, subject: &Digest) -> Result<Vec<Bytes>, StateError> {
    let hex: String = subject.hex().chars().take(64).collect();
    let Ok(tag) = format!("{}-{hex}", subject.algorithm().as_str()).parse::<Tag>() else {
        return Ok(Vec::new());
    };
    let Some(row) = view.tag(repo, &tag)? else { return Ok(Vec::new()) };
    let index: Value = match view.body(&row.digest)? {
        Some(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
        None => Value::Null,
    };
    let mut found = Vec::new();
    for descriptor in index["manifests"].as_array().into_iter().flatten() {
        let digest = descriptor["digest"].as_str().and_then(|text| text.parse::<Digest>().ok());
        if let (Some(digest), Some(descriptor)) = (digest, descriptor.as_object())
            && let Some(row) = view.manifest(repo, &digest)?
        {
            let descriptor = completed(view, descriptor.clone(), &digest, row)?;
            found.push(Bytes::from(Value::Object(descriptor).to_string()));
        }
    }
    Ok(found)
}

/// The descriptor with what the manifest itself says: clients that keep a list under a tag leave
/// out what they need not, and may be wrong.
fn completed(
    view: &View,
    mut descriptor: Map<String, Value>,
    digest: &Digest,
    row: ManifestRow,
) -> Result<Map<String, Value>, StateError> {
    descriptor.insert("mediaType".into(), row.media_type.into());
    descriptor.insert("size".into(), row.size.into());
    if let Some(artifact_type) = row.artifact_type {
        descriptor.insert("artifactType".into(), artifact_type.into());
    }
    if !descriptor.contains_key("annotations") {
        let bytes = view.body(digest)?.unwrap_or_default();
        let annotations: Map<_, _> =
            annotations(&bytes).into_iter().map(|(key, value)| (key, Value::from(value))).collect();
        if !annotations.is_empty() {
            descriptor.insert("annotations".into(), annotations.into());
        }
    }
    Ok(descriptor)
}
