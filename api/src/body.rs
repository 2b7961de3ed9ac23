//! A request's body as a stream of bytes that can be dropped at any time.
//!
//! A reply that is sent before the body was read must still reach the client. When a connection
//! is closed with unread bytes the kernel resets it and the reply is lost, so what nobody wanted
//! is read and thrown away for a bounded while.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http::header::EXPECT;
use http::{HeaderMap, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::blobs::ByteStream;
use crate::error::{Error, Problem};
use crate::metrics::HttpMetrics;

/// Longest that unwanted bytes are read: enough for a client to notice its answer.
const DRAIN_TIME: Duration = Duration::from_secs(10);
/// Most unwanted bytes that are read.
const DRAIN_BYTES: usize = 64 << 20;

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

    /// The whole body, if it has at most `max` bytes, and the room it takes until it is dropped.
    pub(crate) async fn whole(mut self, max: usize, room: &Room) -> Result<(Bytes, Taken), Error> {
        let too_large = || {
            Error::new(room.too_large, format!("a {} may have at most {max} bytes", room.what))
                .detail(serde_json::json!({ "max": max }))
        };
        if self.length.is_some_and(|length| length > max as u64) {
            return Err(too_large());
        }
        let mut taken = Taken(None);
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.next().await {
            let chunk = chunk.map_err(crate::blobs::UploadError::ClientGone)?;
            if whole.len() + chunk.len() > max {
                return Err(too_large());
            }
            room.take(chunk.len(), &mut taken).await?;
            whole.extend_from_slice(&chunk);
        }
        Ok((whole.freeze(), taken))
    }
}

/// Bounds the bytes of bodies that are kept in memory at once. Taken as bytes arrive, so that a
/// client that sends slowly holds no more than it sent.
pub(crate) struct Room {
    size: usize,
    bytes: Arc<Semaphore>,
    wait: Duration,
    what: &'static str,
    too_large: Problem,
}

/// Room that is given back when dropped.
pub(crate) struct Taken(Option<OwnedSemaphorePermit>);

impl Room {
    /// Room for `bytes`, for which a body waits at most `wait`; of manifests, as clients are told.
    pub(crate) fn new(bytes: usize, wait: Duration) -> Self {
        Room {
            size: bytes,
            bytes: Arc::new(Semaphore::new(bytes)),
            wait,
            what: "manifest",
            too_large: Problem::ManifestTooLarge,
        }
    }

    /// As [`Self::new`], of something else, of which one that is too large is this problem.
    pub(crate) fn of(what: &'static str, too_large: Problem, bytes: usize, wait: Duration) -> Self {
        Room { what, too_large, ..Room::new(bytes, wait) }
    }

    /// Room for so many bytes at once, until it is dropped.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Taken, Error> {
        let mut taken = Taken(None);
        if bytes > self.size {
            return Err(Error::new(
                self.too_large,
                format!("the {} takes too much memory to be read", self.what),
            ));
        }
        self.take(bytes, &mut taken).await?;
        Ok(taken)
    }

    async fn take(&self, bytes: usize, taken: &mut Taken) -> Result<(), Error> {
        let full = || Error::new(Problem::Unavailable, format!("too many {}s at once; try again", self.what));
        let wanted = u32::try_from(bytes).map_err(|_| full())?;
        let permit = tokio::time::timeout(self.wait, self.bytes.clone().acquire_many_owned(wanted)).await;
        let permit = permit.map_err(|_| full())?.map_err(|_| full())?;
        match &mut taken.0 {
            Some(all) => all.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
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

/// The body of a peer's request, to be read out like a client's when it is dropped early: a peer that is
/// refused in mid-body must hear the refusal, and not a reset.
pub fn read_out(body: Body) -> ByteStream {
    Box::pin(Incoming::new(&HeaderMap::new(), body))
}

async fn drain(mut body: BodyDataStream) {
    let mut left = DRAIN_BYTES;
    while let Some(Ok(chunk)) = body.next().await {
        let Some(rest) = left.checked_sub(chunk.len()) else { return };
        left = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(bytes: usize) -> Incoming {
        Incoming::new(&HeaderMap::new(), Body::from(vec![0; bytes]))
    }

    #[tokio::test]
    async fn unwanted_bodies_are_read_for_a_bounded_while() {
        let read = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (count, (ended, end)) = (Arc::clone(&read), tokio::sync::oneshot::channel::<()>());
        let endless = futures::stream::repeat_with(move || {
            let _lives_as_long = &ended;
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            io::Result::Ok(Bytes::from_static(&[0; 1 << 20]))
        });
        drop(Incoming::new(&HeaderMap::new(), Body::from_stream(endless)));
        let given_up = tokio::time::timeout(Duration::from_secs(20), end).await;
        assert!(given_up.is_ok(), "an endless body is still being read");
        assert_eq!(read.load(std::sync::atomic::Ordering::Relaxed), 65);
    }

    #[tokio::test]
    async fn bodies_wait_for_room_and_give_it_back() {
        let room = Room::new(100, Duration::from_millis(50));
        let (bytes, first) = incoming(60).whole(80, &room).await.unwrap();
        assert_eq!(bytes.len(), 60);
        let refused = incoming(60).whole(80, &room).await.map(|_| ()).map_err(|error| error.problem());
        assert_eq!(refused, Err(Problem::Unavailable));
        drop(first);
        assert!(incoming(60).whole(80, &room).await.is_ok());
        let large = incoming(81).whole(80, &room).await.map(|_| ()).map_err(|error| error.problem());
        assert_eq!(large, Err(Problem::ManifestTooLarge));
        assert!(incoming(80).whole(80, &room).await.is_ok(), "room of refused bodies was not given back");
        let reserved = room.reserve(100).await.unwrap();
        let refused = room.reserve(1).await.map(|_| ()).map_err(|error| error.problem());
        assert_eq!(refused, Err(Problem::Unavailable));
        drop(reserved);
        let never = room.reserve(101).await.map(|_| ()).map_err(|error| error.problem());
        assert_eq!(never, Err(Problem::ManifestTooLarge));
    }
}
