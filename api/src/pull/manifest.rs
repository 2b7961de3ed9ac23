//! Manifests of upstreams (end-3).
//!
//! `Accept` is ignored, as for our own: a manifest has one form, and its digest is that form's. The
//! upstream was asked for all forms that there are, so an answer is the same whoever asked first.

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};

use super::port::{PullError, Pulled};
use super::serve::Pull;
use crate::error::{Error, Problem};
use crate::route::Reference;
use crate::{etag, headers};

/// GET and HEAD.
pub(super) async fn get(pull: &Pull<'_>, reference: &Reference, head: bool) -> Result<Response, Error> {
    let pulled = pull.upstreams.manifest(pull.name, reference, head).await;
    let refused = |error| pull.refused_name(error, Problem::ManifestUnknown, &reference.to_string());
    let Pulled { digest, media_type, size, bytes, index, stale } = pulled.map_err(refused)?;
    let mut response = if etag::is_known(pull.request, &digest) {
        etag::not_modified(&digest)
    } else {
        let body = match bytes {
            _ if head => Body::empty(),
            Some(bytes) => Body::from(bytes),
            None => return Err(refused(PullError::Failed)),
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
        response.headers_mut().insert(CONTENT_TYPE, content_type(&media_type));
        etag::put(&mut response, &digest);
        response
    };
    headers::log_id(&mut response, index);
    headers::stale(&mut response, stale.as_deref());
    Ok(response)
}

/// The type as the upstream sent it, unless a browser might run what has it.
fn content_type(media_type: &str) -> HeaderValue {
    let harmless = media_type.starts_with("application/vnd.") || media_type == "application/json";
    let value = HeaderValue::from_str(media_type).ok().filter(|_| harmless);
    value.unwrap_or(HeaderValue::from_static("application/octet-stream"))
}
