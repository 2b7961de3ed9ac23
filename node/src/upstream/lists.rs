//! Lists of an upstream: tags and referrers.
//!
//! Always holds: what leaves here is JSON of the shape that the distribution-spec gives the list.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ACCEPT, LINK};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;
use trow_api::pull::UpstreamName;
use trow_raft::Digest;

use super::answers::{Listed, UpstreamError};
use super::meter::Kind;
use super::registry::{Ask, Registry};

const BYTES_MAX: usize = 4 << 20;
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

/// A page of tags.
#[derive(Deserialize)]
struct Tags<'a> {
    #[serde(borrow)]
    tags: Option<Vec<Cow<'a, str>>>,
}

/// What of an index of referrers must be there, and of these types.
#[derive(Deserialize)]
struct Index {
    #[serde(rename = "manifests")]
    _manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    #[serde(rename = "mediaType")]
    _media_type: String,
    #[serde(rename = "digest")]
    _digest: String,
    #[serde(rename = "size")]
    _size: u64,
}

impl Registry {
    pub(super) async fn tags(
        &self,
        name: &UpstreamName,
        n: Option<usize>,
        last: Option<&str>,
    ) -> Result<Listed, UpstreamError> {
        let n = n.map(|n| ("n", n.to_string()));
        let last = last.map(|last| ("last", last.to_owned()));
        let query = n.into_iter().chain(last).collect();
        let (headers, json) =
            self.list(Kind::Tags, name, "tags/list".to_owned(), query, "application/json").await?;
        let page: Tags = serde_json::from_slice(&json).map_err(|_| self.bad("sent no list of tags"))?;
        // A cursor that is not `last` is of no use to clients of ours; the last tag is one that every
        // registry understands.
        let next = link(&headers).map(|next| next.or_else(|| Some(page.tags?.last()?.to_string())));
        Ok(Listed { next: next.flatten(), json, filtered: false })
    }

    pub(super) async fn referrers(
        &self,
        name: &UpstreamName,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Listed, UpstreamError> {
        let query = artifact_type.map(|kind| ("artifactType", kind.to_owned())).into_iter().collect();
        let (headers, json) =
            self.list(Kind::Referrers, name, format!("referrers/{subject}"), query, INDEX).await?;
        let index: Index =
            serde_json::from_slice(&json).map_err(|_| self.bad("sent no list of referrers"))?;
        drop(index);
        let filters = headers.get_all(FILTERS).iter().filter_map(|value| value.to_str().ok());
        let mut filters = filters.flat_map(|value| value.split(',')).map(str::trim);
        let filtered = artifact_type.is_some() && filters.any(|filter| filter == "artifactType");
        Ok(Listed { next: link(&headers).flatten(), json, filtered })
    }

    async fn list(
        &self,
        kind: Kind,
        name: &UpstreamName,
        path: String,
        query: Vec<(&'static str, String)>,
        accept: &'static str,
    ) -> Result<(HeaderMap, Bytes), UpstreamError> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        let mut answer = self.ask(Ask { method: Method::GET, kind, name, path, query, headers }).await?;
        let headers = std::mem::take(answer.response.headers_mut());
        Ok((headers, self.whole(answer, BYTES_MAX).await?))
    }
}

/// Whether there is a next page, and the `last` that it asks for.
fn link(headers: &HeaderMap) -> Option<Option<String>> {
    let value = headers.get(LINK)?.to_str().ok()?;
    let (url, parameters) = value.strip_prefix('<')?.split_once('>')?;
    let next = parameters.split(';').map(str::trim).any(|p| matches!(p, "rel=\"next\"" | "rel=next"));
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let pairs = reqwest::Url::parse(&format!("http://upstream/?{query}")).ok()?;
    let last = pairs.query_pairs().find(|(key, _)| key == "last").map(|(_, last)| last.into_owned());
    next.then_some(last.filter(|last| !last.is_empty()))
}
