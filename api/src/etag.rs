//! Entity tags: the digest, quoted; and conditional reads by them (RFC 9110, section 13.1.2).
//!
//! Content of a digest never changes, so its tag is strong. For a tag of the repository the digest
//! is what it points to now.

use axum::body::Body;
use axum::response::Response;
use http::header::{ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use trow_raft::Digest;

use crate::headers;

/// The entity tag of content.
pub(crate) fn of(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether the client has this content already, as it says in `If-None-Match`: a list of tags, in
/// any of the ways in which clients write them, or `*`.
pub(crate) fn is_known(request: &HeaderMap, digest: &Digest) -> bool {
    if !request.contains_key(IF_NONE_MATCH) {
        return false;
    }
    let tag = of(digest);
    let values = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut listed = values.flat_map(|value| value.split(',')).map(str::trim);
    listed.any(|one| {
        let one = one.strip_prefix("W/").unwrap_or(one);
        one == "*" || one == tag || tag.trim_matches('"') == one
    })
}

/// 304 with what a reply with the content would say of it.
pub(crate) fn not_modified(digest: &Digest) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    put(&mut response, digest);
    response
}

/// Puts the tag and the digest on a reply.
pub(crate) fn put(response: &mut Response, digest: &Digest) {
    if let Ok(value) = HeaderValue::from_str(&of(digest)) {
        response.headers_mut().insert(ETAG, value);
    }
    headers::digest(response, digest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_tag_is_known_however_it_is_written() {
        let (digest, other) = (Digest::sha256(b"x"), Digest::sha256(b"y"));
        let known = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IF_NONE_MATCH, value.parse().unwrap());
            }
            is_known(&headers, &digest)
        };
        let tag = of(&digest);
        for one in [tag.as_str(), &format!("W/{tag}"), &digest.to_string(), "*", &format!("\"a\", {tag}")] {
            assert!(known(&[one]), "{one}");
        }
        assert!(known(&[&of(&other), &tag]));
        for one in ["", "\"\"", &of(&other), &tag[..70], &tag.to_uppercase()] {
            assert!(!known(&[one]), "{one}");
        }
        assert!(!known(&[]));
    }
}
