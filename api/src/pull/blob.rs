//! Blobs of upstreams (end-2): GET with ranges, and HEAD.
//!
//! Bytes go out as they arrive, unknown to be right until the last of them is there: what turns out
//! to be wrong, short or too long breaks the connection off, and is never ended cleanly.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::StatusCode;
use trow_raft::Digest;

use super::port::{Content, PullError};
use super::serve::Pull;
use crate::blob::{asked_range, part_of, reply, watched};
use crate::blobs::ByteStream;
use crate::error::{Error, Problem};
use crate::etag;
use crate::range::{self, Wanted};

/// How long the first bytes are waited for before the reply begins without them: what fails before
/// can still be said in a status, but clients give a mirror up that sends no headers for 30 s.
const FIRST_BYTES: Duration = Duration::from_secs(5);

/// HEAD.
pub(super) async fn head(pull: &Pull<'_>, digest: &Digest) -> Result<Response, Error> {
    let size = size_of(pull, digest).await?;
    if etag::is_known(pull.request, digest) {
        return Ok(etag::not_modified(digest));
    }
    Ok(reply(StatusCode::OK, digest, size, Body::empty()))
}

/// GET, whole or one range.
pub(super) async fn get(pull: &Pull<'_>, digest: &Digest) -> Result<Response, Error> {
    if etag::is_known(pull.request, digest) {
        // Only of what there is; and nothing is fetched for a client that has it.
        size_of(pull, digest).await?;
        return Ok(etag::not_modified(digest));
    }
    let asked = asked_range(pull.request, digest);
    let cut = |size| match range::wanted(asked, size) {
        Wanted::All => Some(0..size),
        Wanted::Part(part) => Some(part),
        Wanted::Nothing => None,
    };
    let content = pull.upstreams.blob(pull.name, digest, &cut).await;
    let refused = |error| pull.refused(error, Problem::BlobUnknown, &digest.to_string());
    let Content { size, range: part, body } = content.map_err(refused)?;
    let is_part = matches!(range::wanted(asked, size), Wanted::Part(_));
    let length = part.end.saturating_sub(part.start);
    let body = if length == 0 { body } else { begun(body).await.map_err(refused)? };
    let body = watched(Box::pin(exactly(body, length)), pull.metrics.clone(), *digest);
    Ok(part_of(size, part, is_part, digest, Body::from_stream(body)))
}

async fn size_of(pull: &Pull<'_>, digest: &Digest) -> Result<u64, Error> {
    let size = pull.upstreams.blob_size(pull.name, digest).await;
    size.map_err(|error| pull.refused(error, Problem::BlobUnknown, &digest.to_string()))
}

/// Waits a while for the first bytes.
async fn begun(mut body: ByteStream) -> Result<ByteStream, PullError> {
    let Ok(first) = tokio::time::timeout(FIRST_BYTES, body.next()).await else { return Ok(body) };
    match first {
        Some(Ok(first)) => Ok(Box::pin(stream::iter([Ok(first)]).chain(body))),
        Some(Err(cause)) => {
            tracing::warn!(%cause, "a blob of an upstream registry ended before its first byte");
            Err(match cause.kind() {
                io::ErrorKind::InvalidData => {
                    PullError::Bad("the upstream's bytes do not have the digest".to_owned())
                }
                _ => PullError::Unavailable {
                    why: "the upstream's bytes did not come; try again".to_owned(),
                    retry: Duration::from_secs(1),
                },
            })
        }
        None => Err(PullError::Bad("the upstream ended the blob before its first byte".to_owned())),
    }
}

/// The bytes of `body`, which are `length`, or an error where they end early or go on.
fn exactly(body: ByteStream, length: u64) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some((body, length)), |state| async move {
        let (mut body, left) = state?;
        let wrong = |why| Some((Err(io::Error::new(io::ErrorKind::InvalidData, why)), None));
        match body.next().await {
            Some(Ok(bytes)) => match left.checked_sub(bytes.len() as u64) {
                Some(left) => Some((Ok(bytes), Some((body, left)))),
                None => wrong("more bytes than the blob has"),
            },
            Some(Err(cause)) => Some((Err(cause), None)),
            None if left > 0 => wrong("fewer bytes than the blob has"),
            None => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(chunks: Vec<io::Result<Bytes>>, length: u64) -> (usize, bool) {
        let body: ByteStream = Box::pin(stream::iter(chunks));
        let items: Vec<_> = exactly(body, length).collect().await;
        let failed = items.iter().any(|item| item.is_err());
        assert!(items.iter().rev().skip(1).all(|item| item.is_ok()), "an error is the last item");
        (items.iter().flatten().map(Bytes::len).sum(), failed)
    }

    #[tokio::test]
    async fn a_body_of_another_length_never_ends_cleanly() {
        let bytes = |length: usize| Ok(Bytes::from(vec![0; length]));
        assert_eq!(read(vec![bytes(3), bytes(4)], 7).await, (7, false));
        assert_eq!(read(vec![], 0).await, (0, false));
        assert_eq!(read(vec![bytes(3), bytes(3)], 7).await, (6, true));
        assert_eq!(read(vec![bytes(3), bytes(5)], 7).await, (3, true));
        assert_eq!(read(vec![], 1).await, (0, true));
        let broken = Err(io::Error::other("broken"));
        assert_eq!(read(vec![bytes(3), broken, bytes(4)], 7).await, (3, true));
    }
}
