//! The headers of replies that several endpoints share.

use axum::response::Response;
use http::header::{LINK, LOCATION, WARNING};
use http::{HeaderName, HeaderValue};
use trow_raft::{Digest, RepoName};

use crate::blobs::UploadToken;

/// The log index of the entry that made it so.
pub const LOG_ID: HeaderName = HeaderName::from_static("trow-log-id");
/// The digest of what is served or was stored.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Says that `subject` was understood.
pub(crate) const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// Each tag that a push moved.
pub(crate) const TAG: HeaderName = HeaderName::from_static("oci-tag");
/// Which filters a referrers list went through.
pub(crate) const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
/// The `ns=` that was understood.
pub(crate) const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
/// The session's id, which Docker's clients log.
pub(crate) const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Adds a header whose value is made of parsed parts, so of visible ASCII.
pub(crate) fn put(response: &mut Response, name: HeaderName, text: &str) {
    match HeaderValue::from_str(text) {
        Ok(value) => drop(response.headers_mut().append(name, value)),
        Err(_) => {
            tracing::warn!(%name, "a header was left out because its value is not visible ASCII; nothing to do, the body has it")
        }
    }
}

/// `Trow-Log-Id`.
pub(crate) fn log_id(response: &mut Response, index: u64) {
    response.headers_mut().insert(LOG_ID, HeaderValue::from(index));
}

/// `Docker-Content-Digest`.
pub(crate) fn digest(response: &mut Response, digest: &Digest) {
    put(response, CONTENT_DIGEST, &digest.to_string());
}

/// `Warning`, when there is something to say.
pub(crate) fn warning(response: &mut Response, warning: Option<HeaderValue>) {
    if let Some(value) = warning {
        response.headers_mut().append(WARNING, value);
    }
}

/// `Warning` of an answer that may be old: `why` is the rest of its text.
pub(crate) fn stale(response: &mut Response, why: Option<&str>) {
    let Some(why) = why else { return };
    // A quoted string of visible ASCII: what others sent may be in it.
    let plain = |c: char| match c {
        '"' => '\'',
        ' '..='~' if c != '\\' => c,
        _ => '?',
    };
    let text: String = why.chars().map(plain).take(STALE_MAX).collect();
    put(response, WARNING, &format!("299 - \"stale: {text}\""));
}

/// Longest text of a warning, in bytes.
const STALE_MAX: usize = 500;

/// `Location` of content: `kind` is `blobs` or `manifests`.
pub(crate) fn location(response: &mut Response, repo: &RepoName, kind: &str, digest: &Digest) {
    put(response, LOCATION, &format!("/v2/{repo}/{kind}/{digest}"));
}

/// `Location` of an upload session.
pub(crate) fn upload_location(repo: &RepoName, token: &UploadToken) -> String {
    let base = format!("/v2/{repo}/blobs/uploads/{}", token.id());
    if token.state().is_empty() { base } else { format!("{base}?_state={}", token.state()) }
}

/// `Range` of an upload session with `length` bytes. An empty one has no range that says so;
/// `0-0` is what clients expect of it.
pub(crate) fn upload_range(length: u64) -> String {
    format!("0-{}", length.saturating_sub(1))
}

/// `Link` to the next page: `path` with parameters, each percent-encoded here.
pub(crate) fn next_page(response: &mut Response, path: &str, parameters: &[(&str, &str)]) {
    let query: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    put(response, LINK, &format!("<{path}?{}>; rel=\"next\"", query.join("&")));
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
