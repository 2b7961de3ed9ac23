//! Blobs of an upstream, as they arrive.
//!
//! Always holds: what is asked for is the blob of a repository by its digest; addresses that a manifest gives
//! (`urls`) are not even seen here. Never does: verify, which needs the whole.

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use trow_api::pull::UpstreamName;
use trow_raft::Digest;

use super::answers::{Arriving, UpstreamError};
use super::body;
use super::meter::Kind;
use super::registry::{Answer, Ask, Registry};

impl Registry {
    pub(super) async fn blob(
        &self,
        name: &UpstreamName,
        digest: &Digest,
        from: u64,
    ) -> Result<Arriving, UpstreamError> {
        let mut headers = HeaderMap::new();
        if from > 0 {
            headers.insert(RANGE, HeaderValue::try_from(format!("bytes={from}-")).map_err(|e| self.bad(e))?);
        }
        let Answer { response, held } = self.ask(blob(Method::GET, name, digest, headers)).await?;
        let (size, from) = match response.status() {
            StatusCode::PARTIAL_CONTENT => match range(response.headers()) {
                Some((first, size)) if first == from => (size, from),
                _ => return Err(self.bad("answered another range than it was asked for")),
            },
            _ => (response.content_length(), 0),
        };
        Ok(Arriving { size, from, body: body::arriving(response, self.settings.timeout, held) })
    }

    pub(super) async fn blob_size(&self, name: &UpstreamName, digest: &Digest) -> Result<u64, UpstreamError> {
        let Answer { response, .. } = self.ask(blob(Method::HEAD, name, digest, HeaderMap::new())).await?;
        let size = response.headers().get(CONTENT_LENGTH);
        let size = size.and_then(|size| size.to_str().ok()?.parse().ok());
        size.ok_or_else(|| self.bad("does not say how large the blob is"))
    }
}

fn blob<'a>(method: Method, name: &'a UpstreamName, digest: &Digest, headers: HeaderMap) -> Ask<'a> {
    Ask { method, kind: Kind::Blob, name, path: format!("blobs/{digest}"), query: Vec::new(), headers }
}

/// The first byte that comes, and the size of the whole: `bytes 5-9/10`.
fn range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, size) = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let size = if size == "*" { None } else { Some(size.parse::<u64>().ok()?) };
    // A range that ends before the blob would leave it unfinished without an error.
    let ends = size.is_none_or(|size| last.checked_add(1) == Some(size));
    (first <= last && ends).then_some((first, size))
}
