//! A client of one node, speaking the distribution-spec as docker and containerd do.
//!
//! Nothing is retried here: an answer is an [`Answer`] whatever its status, and a connection that broke
//! or a time that ran out is an [`Unknown`], so that a history records what really was seen.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, LOCATION, RANGE};
use reqwest::{Body, Method, RequestBuilder};
use sha2::Digest as _;
use trow_raft::Digest;

use crate::content::{self, Content};

/// What clients say they take.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// The request's outcome is not known.
#[derive(Debug, thiserror::Error)]
#[error("{node}: {what}: {cause}")]
pub struct Unknown {
    /// The node asked.
    pub node: String,
    /// The request.
    pub what: String,
    /// What went wrong, with its causes.
    pub cause: String,
}

/// What a node answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// Whether the status is 2xx.
    pub fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `Trow-Log-Id`.
    pub fn log_id(&self) -> Option<u64> {
        self.header("trow-log-id")?.parse().ok()
    }

    /// Whether the answer says that it is stale.
    pub fn stale(&self) -> bool {
        self.header("warning").is_some_and(|warning| warning.starts_with("299"))
    }

    /// The OCI error code of the body.
    pub fn code(&self) -> Option<String> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        Some(body["errors"][0]["code"].as_str()?.to_owned())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(400)]);
        write!(f, "{} {}", self.status, body.trim())
    }
}

/// A body that was read to its end and hashed on the way.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The HTTP status.
    pub status: u16,
    /// Bytes read.
    pub len: u64,
    /// Their SHA-256.
    pub digest: Digest,
}

/// A client of one node.
#[derive(Clone, Debug)]
pub struct Client {
    /// The node's name.
    pub node: String,
    base: String,
    http: reqwest::Client,
}

/// Has TLS done by the one library that is built in; clients need it first.
pub(crate) fn crypto() {
    static CRYPTO: OnceLock<()> = OnceLock::new();
    CRYPTO.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// An HTTP client whose requests end within `limit`.
pub fn http(limit: Duration) -> reqwest::Client {
    crypto();
    let builder =
        reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(2)).timeout(limit);
    builder.build().expect("an HTTP client")
}

type Sent<T> = Result<T, Unknown>;

impl Client {
    /// A client of the node `name` whose client listener is `address`. Requests end within a minute.
    pub fn new(name: &str, address: &str) -> Self {
        Client {
            node: name.to_owned(),
            base: format!("http://{address}"),
            http: http(Duration::from_secs(60)),
        }
    }

    /// The same with another time limit for each request.
    pub fn within(mut self, limit: Duration) -> Self {
        self.http = http(limit);
        self
    }

    /// Any request; `path` begins with a slash.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Sends and reads the answer to its end.
    pub async fn send(&self, what: &str, request: RequestBuilder) -> Sent<Answer> {
        let unknown = |error: reqwest::Error| self.unknown(what, &error);
        let reply = request.send().await.map_err(unknown)?;
        let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
        let body = reply.bytes().await.map_err(unknown)?;
        Ok(Answer { status, headers, body })
    }

    fn unknown(&self, what: &str, error: &dyn std::error::Error) -> Unknown {
        let mut cause = error.to_string();
        let mut next = error.source();
        while let Some(error) = next {
            cause = format!("{cause}: {error}");
            next = error.source();
        }
        Unknown { node: self.node.clone(), what: what.to_owned(), cause }
    }

    /// Opens an upload; the answer's `Location` is where to go on.
    pub async fn start_upload(&self, repo: &str) -> Sent<Answer> {
        let path = format!("/v2/{repo}/blobs/uploads/");
        self.send("POST upload", self.request(Method::POST, &path).header("content-length", "0")).await
    }

    /// Pushes by POST and PUT, streaming.
    pub async fn push_blob(&self, repo: &str, content: Content, digest: &Digest) -> Sent<Answer> {
        let started = self.start_upload(repo).await?;
        match location(&started) {
            Some(location) if started.status == 202 => self.finish_upload(&location, content, digest).await,
            _ => Ok(started),
        }
    }

    /// Pushes by POST, one streamed PATCH without a length, and PUT, as docker does.
    pub async fn push_blob_by_patch(&self, repo: &str, content: Content, digest: &Digest) -> Sent<Answer> {
        let started = self.start_upload(repo).await?;
        let Some(location) = location(&started).filter(|_| started.status == 202) else { return Ok(started) };
        let patched = self.patch(&location, content).await?;
        let Some(location) = self::location(&patched).filter(|_| patched.status == 202) else {
            return Ok(patched);
        };
        self.finish_upload(&location, Content::empty(), digest).await
    }

    /// Pushes in a single POST.
    pub async fn push_blob_by_post(&self, repo: &str, content: Content, digest: &Digest) -> Sent<Answer> {
        let path = format!("/v2/{repo}/blobs/uploads/?digest={digest}");
        let request = self.request(Method::POST, &path).header("content-length", content.len());
        self.send("POST blob", request.header(CONTENT_TYPE, "application/octet-stream").body(body(content)))
            .await
    }

    /// Appends to an upload.
    pub async fn patch(&self, location: &str, content: Content) -> Sent<Answer> {
        let request = self.request(Method::PATCH, location).header(CONTENT_TYPE, "application/octet-stream");
        self.send("PATCH upload", request.body(body(content))).await
    }

    /// Ends an upload with its last bytes.
    pub async fn finish_upload(&self, location: &str, content: Content, digest: &Digest) -> Sent<Answer> {
        let mark = if location.contains('?') { '&' } else { '?' };
        let request = self.request(Method::PUT, &format!("{location}{mark}digest={digest}"));
        let request =
            request.header("content-length", content.len()).header(CONTENT_TYPE, "application/octet-stream");
        self.send("PUT upload", request.body(body(content))).await
    }

    /// Reads a blob to its end. A body that breaks off is [`Unknown`].
    pub async fn pull_blob(&self, repo: &str, digest: &Digest) -> Sent<Pulled> {
        self.pull_blob_watched(repo, digest, async |_| ()).await
    }

    /// The same, telling `progress` the bytes read so far after each piece. Nothing more is read until it
    /// returns, so a scenario can hold a transfer in mid-body.
    pub async fn pull_blob_watched(
        &self,
        repo: &str,
        digest: &Digest,
        mut progress: impl AsyncFnMut(u64),
    ) -> Sent<Pulled> {
        let unknown = |error: reqwest::Error| self.unknown("GET blob", &error);
        let request = self.request(Method::GET, &format!("/v2/{repo}/blobs/{digest}"));
        let reply = request.send().await.map_err(unknown)?;
        let status = reply.status().as_u16();
        let (mut body, mut hasher, mut len) = (reply.bytes_stream(), sha2::Sha256::new(), 0);
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(unknown)?;
            hasher.update(&piece);
            len += piece.len() as u64;
            progress(len).await;
        }
        Ok(Pulled { status, len, digest: content::finish(hasher) })
    }

    /// Reads bytes `from..=to` of a blob.
    pub async fn blob_range(&self, repo: &str, digest: &Digest, from: u64, to: u64) -> Sent<Answer> {
        let request = self.request(Method::GET, &format!("/v2/{repo}/blobs/{digest}"));
        self.send("GET range", request.header(RANGE, format!("bytes={from}-{to}"))).await
    }

    /// HEAD of a blob.
    pub async fn head_blob(&self, repo: &str, digest: &Digest) -> Sent<Answer> {
        self.send("HEAD blob", self.request(Method::HEAD, &format!("/v2/{repo}/blobs/{digest}"))).await
    }

    /// Pushes a manifest by tag or digest.
    pub async fn put_manifest(&self, repo: &str, reference: &str, media: &str, bytes: Bytes) -> Sent<Answer> {
        let request = self.request(Method::PUT, &format!("/v2/{repo}/manifests/{reference}"));
        self.send("PUT manifest", request.header(CONTENT_TYPE, media).body(bytes)).await
    }

    /// Reads a manifest by tag or digest.
    pub async fn manifest(&self, repo: &str, reference: &str) -> Sent<Answer> {
        let request = self.request(Method::GET, &format!("/v2/{repo}/manifests/{reference}"));
        self.send("GET manifest", request.header(ACCEPT, ACCEPTED)).await
    }

    /// Lists tags.
    pub async fn tags(&self, repo: &str) -> Sent<Answer> {
        self.send("GET tags", self.request(Method::GET, &format!("/v2/{repo}/tags/list"))).await
    }
}

/// Where an upload goes on; relative, as the contract has it, or absolute as the spec allows.
pub fn location(answer: &Answer) -> Option<String> {
    let text = answer.headers.get(LOCATION)?.to_str().ok()?;
    match text.split_once("://") {
        Some((_, rest)) => Some(rest[rest.find('/')?..].to_owned()),
        None => Some(text.to_owned()),
    }
}

fn body(content: Content) -> Body {
    Body::wrap_stream(stream::iter(content.chunks().map(Ok::<_, std::convert::Infallible>)))
}
