//! A request's body as a stream of bytes that can be dropped at any time.
//!
//! A reply that is sent before the body was read must still reach the client. When a connection
//! is closed with unread bytes the kernel resets it and the reply is lost, so what nobody wanted
//! is read and thrown away for a bounded while.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http::header::EXPECT;
use http::{HeaderMap, header};

use crate::blobs::ByteStream;
use crate::error::{Error, Problem};
use crate::metrics::HttpMetrics;

/// Longest that unwanted bytes are read.
const DRAIN_TIME: Duration = Duration::from_secs(30);
/// Most unwanted bytes that are read.
const DRAIN_BYTES: usize = 1 << 30;

/// The body of a request.
pub(crate) struct Incoming {
    inner: Option<BodyDataStream>,
    /// The client waits for `100 Continue`, which the first poll sends: nothing is on its way.
    waits: bool,
    /// `Content-Length`, where the client sent one.
    pub(crate) length: Option<u64>,
}

impl Incoming {
    pub(crate) fn new(headers: &HeaderMap, body: Body) -> Self {
        let waits = headers.get(EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        let inner = (!http_body::Body::is_end_stream(&body)).then(|| body.into_data_stream());
        Incoming { inner, waits, length }
    }

    /// As the stream that a [`Blobs`](crate::Blobs) takes, counted.
    pub(crate) fn counted(self, metrics: HttpMetrics) -> ByteStream {
        Box::pin(self.inspect(move |chunk| {
            if let Ok(bytes) = chunk {
                metrics.received(bytes.len());
            }
        }))
    }

    /// The whole body, if it has at most `max` bytes.
    pub(crate) async fn whole(mut self, max: usize) -> Result<Bytes, Error> {
        let too_large =
            || Error::new(Problem::ManifestTooLarge, format!("a manifest may have at most {max} bytes"));
        if self.length.is_some_and(|length| length > max as u64) {
            return Err(too_large());
        }
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.next().await {
            let chunk = chunk.map_err(crate::blobs::UploadError::ClientGone)?;
            if whole.len() + chunk.len() > max {
                return Err(too_large());
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}

impl Stream for Incoming {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.waits = false;
        let Some(inner) = self.inner.as_mut() else {
            return Poll::Ready(None);
        };
        let next = std::task::ready!(inner.poll_next_unpin(context));
        if !matches!(next, Some(Ok(_))) {
            self.inner = None;
        }
        Poll::Ready(next.map(|chunk| chunk.map_err(io::Error::other)))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        if self.waits {
            return;
        }
        // Outside a runtime there is no connection either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(DRAIN_TIME, drain(inner)));
        }
    }
}

async fn drain(mut body: BodyDataStream) {
    let mut left = DRAIN_BYTES;
    while let Some(Ok(chunk)) = body.next().await {
        let Some(rest) = left.checked_sub(chunk.len()) else { return };
        left = rest;
    }
}
