//! Manifests of an upstream: what they are, and their bytes.
//!
//! Always holds: bytes that leave here have the digest that is said with them. Never does: read what is in them.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use trow_api::pull::UpstreamName;
use trow_api::route::Reference;
use trow_raft::Digest;

use super::answers::{Described, Fetched, UpstreamError};
use super::meter::Kind;
use super::registry::{Answer, Ask, Registry};

/// No manifest is larger, here or elsewhere.
const BYTES_MAX: usize = 4 << 20;
/// All that a repository may hold, as container runtimes ask for it.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*";
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The longest media type that is believed to be one.
const MEDIA_TYPE_MAX: usize = 255;

impl Registry {
    pub(super) async fn describe(
        &self,
        name: &UpstreamName,
        reference: &Reference,
    ) -> Result<Described, UpstreamError> {
        let answer = self.exchange(manifest(Method::HEAD, name, reference)).await?;
        if answer.response.status() == StatusCode::METHOD_NOT_ALLOWED {
            drop(answer);
            return self.manifest(name, reference).await.map(Described::from);
        }
        let Answer { response, held } = self.judged(answer)?;
        // A GET that may follow takes a place of its own.
        drop(held);
        let headers = response.headers();
        let size = headers.get(http::header::CONTENT_LENGTH);
        let size = size.and_then(|size| size.to_str().ok()?.parse::<u64>().ok()).filter(|size| *size > 0);
        let named = self.named(headers)?;
        let digest = match reference {
            Reference::Digest(digest) => Some(self.same(digest, named)?),
            Reference::Tag(_) => named,
        };
        match (digest, media_type(headers), size) {
            (_, _, Some(size)) if size > BYTES_MAX as u64 => Err(self.too_large()),
            (Some(digest), Some(media_type), Some(size)) => {
                Ok(Described { digest, media_type, size, bytes: None })
            }
            _ => self.manifest(name, reference).await.map(Described::from),
        }
    }

    pub(super) async fn manifest(
        &self,
        name: &UpstreamName,
        reference: &Reference,
    ) -> Result<Fetched, UpstreamError> {
        let answer = self.ask(manifest(Method::GET, name, reference)).await?;
        let named = self.named(answer.response.headers())?;
        let media_type = media_type(answer.response.headers());
        let bytes = self.whole(answer, BYTES_MAX).await?;
        let digest = match (reference, named) {
            (Reference::Digest(digest), named) => self.same(digest, named)?,
            (Reference::Tag(_), Some(named)) => named,
            (Reference::Tag(_), None) => Digest::sha256(&bytes),
        };
        if Digest::of(digest.algorithm(), &bytes) != digest {
            return Err(self.bad(format_args!("sent a manifest whose digest is not {digest}")));
        }
        let media_type =
            media_type.or_else(|| stated(&bytes)).ok_or_else(|| self.bad("sent a manifest of no type"))?;
        Ok(Fetched { digest, media_type, bytes })
    }

    /// The digest that the answer names. One of an algorithm that is not known here names nothing.
    fn named(&self, headers: &HeaderMap) -> Result<Option<Digest>, UpstreamError> {
        let Some(value) = headers.get(DIGEST) else { return Ok(None) };
        let text = value.to_str().map_err(|_| self.bad("named no digest"))?;
        Ok(text.parse().ok())
    }

    /// The digest that was asked for, unless upstream names another of the same algorithm.
    fn same(&self, asked: &Digest, named: Option<Digest>) -> Result<Digest, UpstreamError> {
        match named {
            Some(named) if named.algorithm() == asked.algorithm() && named != *asked => {
                Err(self.bad(format_args!("answered {named} when asked for {asked}")))
            }
            _ => Ok(*asked),
        }
    }

    fn too_large(&self) -> UpstreamError {
        self.bad(format_args!("answered more than {} MiB", BYTES_MAX >> 20))
    }
}

impl From<Fetched> for Described {
    fn from(fetched: Fetched) -> Described {
        let Fetched { digest, media_type, bytes } = fetched;
        Described { digest, media_type, size: bytes.len() as u64, bytes: Some(bytes) }
    }
}

fn manifest<'a>(method: Method, name: &'a UpstreamName, reference: &Reference) -> Ask<'a> {
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(ACCEPTED))]);
    Ask {
        method,
        kind: Kind::Manifest,
        name,
        path: format!("manifests/{reference}"),
        query: Vec::new(),
        headers,
    }
}

/// The media type of the header, without what follows it.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    plausible(value.split(';').next().unwrap_or_default().trim())
}

/// The media type that a manifest states of itself, for registries that send none.
fn stated(bytes: &Bytes) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    plausible(json.get("mediaType")?.as_str()?)
}

fn plausible(text: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+/".contains(&b);
    let whole = text.len() <= MEDIA_TYPE_MAX && text.bytes().all(plain);
    (whole && text.split('/').filter(|part| !part.is_empty()).count() == 2).then(|| text.to_owned())
}
