//! What of a body went through here on its way to an upload's home.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use trow_api::blobs::ByteStream;

/// How much of a body went through, and how it ended.
#[derive(Default)]
pub(super) struct Passed {
    count: AtomicU64,
    ended: AtomicBool,
    broke: Mutex<Option<io::Error>>,
}

impl Passed {
    /// Bytes that went through.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Whether the whole body did.
    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Takes the error that the sender broke off with.
    pub(super) fn broke(&self) -> Option<io::Error> {
        self.broke.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Passes a body on and notes what went through it.
pub(super) fn counted(body: ByteStream) -> (Counted, Arc<Passed>) {
    let passed = Arc::new(Passed::default());
    // Of one that has nothing nobody need ask for the end.
    passed.ended.store(body.size_hint().1 == Some(0), Ordering::Release);
    (Counted { body, passed: passed.clone() }, passed)
}

pub(super) struct Counted {
    body: ByteStream,
    passed: Arc<Passed>,
}

impl Stream for Counted {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.body.poll_next_unpin(cx);
        match &next {
            Poll::Ready(Some(Ok(bytes))) => {
                self.passed.count.fetch_add(bytes.len() as u64, Ordering::AcqRel);
            }
            Poll::Ready(Some(Err(error))) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                *self.passed.broke.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
            }
            Poll::Ready(None) => self.passed.ended.store(true, Ordering::Release),
            Poll::Pending => {}
        }
        next
    }
}
