//! Reading held blobs, every chunk checked before it is yielded.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;

use super::error::ReadError;

/// The bytes of a blob, or of a range of it, in pieces of at most [`super::CHUNK`] bytes.
///
/// A damaged chunk is an error item instead of its bytes, and the last item.
pub struct BlobBody {
    pub(super) size: u64,
    pub(super) chunks: BoxStream<'static, Result<Bytes, ReadError>>,
}

impl BlobBody {
    /// The size of the whole blob, whatever the range.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Stream for BlobBody {
    type Item = Result<Bytes, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.as_mut().poll_next(cx)
    }
}
