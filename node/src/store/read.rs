//! Reading held blobs, every chunk checked before it is yielded.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use trow_raft::Digest;

use super::checksum::Checksums;
use super::error::{ReadError, StoreError};
use super::hold::is_bad_disk;
use super::{CHUNK, Inner, SMALL, blocking};

/// Chunks read ahead of the client, which is all the memory that a slow one can pin.
const AHEAD: usize = 2;

/// The bytes of a blob, or of a range of it, in pieces of at most [`CHUNK`] bytes.
///
/// A damaged chunk is an error item instead of its bytes, and the last item.
pub struct BlobBody {
    chunks: BoxStream<'static, Result<Bytes, ReadError>>,
}

impl Stream for BlobBody {
    type Item = Result<Bytes, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.as_mut().poll_next(cx)
    }
}

pub(super) async fn open(
    inner: Arc<Inner>,
    digest: Digest,
    range: Option<Range<u64>>,
) -> Result<BlobBody, ReadError> {
    let source = blocking(move || {
        let opened = {
            let _lock = inner.locks.lock(&digest);
            inner.open_locked(&digest)?
        };
        let Some((file, sums)) = opened else { return Err(ReadError::NotHere) };
        Ok(Arc::new(Source { inner, digest, file, sums }))
    })
    .await?;
    let size = source.sums.length();
    let range = range.unwrap_or(0..size);
    let range = range.start.min(size)..range.end.min(size).max(range.start.min(size));
    let chunk = CHUNK as u64;
    let numbers = range.start / chunk..range.end.div_ceil(chunk).max(range.start / chunk);
    let len = range.end - range.start;
    let numbers = if len == 0 { 0..0 } else { numbers };
    let chunks = stream::iter(numbers)
        .map(move |number| {
            let (source, range) = (Arc::clone(&source), range.clone());
            blocking(move || source.chunk(number, &range))
        })
        .buffered(AHEAD)
        .scan(false, |ended, item| {
            let next = (!*ended).then_some(item);
            *ended = matches!(next, Some(Err(_)) | None);
            std::future::ready(next)
        })
        .boxed();
    Ok(BlobBody { chunks })
}

/// All bytes of a small blob, checked against the digest as well, and kept in memory. Blocks.
pub(super) fn small(inner: Arc<Inner>, digest: Digest, size: u64) -> Result<Bytes, ReadError> {
    let opened = {
        let _lock = inner.locks.lock(&digest);
        inner.open_locked(&digest)?
    };
    let Some((file, sums)) = opened else { return Err(ReadError::NotHere) };
    if sums.length() != size || size == 0 || size > SMALL {
        return Err(ReadError::NotHere);
    }
    let source = Source { inner, digest, file, sums };
    let bytes = source.chunk(0, &(0..size))?;
    if Digest::of(digest.algorithm(), &bytes) != digest {
        return Err(source.damaged(0, "its bytes do not have its digest"));
    }
    source.inner.keep_read(&digest, &source.file, &bytes);
    Ok(bytes)
}

struct Source {
    inner: Arc<Inner>,
    digest: Digest,
    file: File,
    sums: Checksums,
}

impl Source {
    /// Chunk `number`, checked, cut to what of it lies in `range`. Blocks.
    fn chunk(&self, number: u64, range: &Range<u64>) -> Result<Bytes, ReadError> {
        let start = number * CHUNK as u64;
        let end = (start + CHUNK as u64).min(self.sums.length());
        let mut bytes = vec![0; (end - start) as usize];
        match self.file.read_exact_at(&mut bytes, start) {
            Ok(()) if self.sums.matches(number, &bytes) => {}
            Ok(()) => return Err(self.damaged(start, "a chunk does not have its checksum")),
            Err(err) if is_bad_disk(&err) => {
                return Err(self.damaged(start, "the disk cannot read a chunk"));
            }
            Err(err) => return Err(self.failed("read", err)),
        }
        let from = range.start.saturating_sub(start) as usize;
        let to = (range.end.min(end) - start) as usize;
        Ok(Bytes::from(bytes).slice(from..to))
    }

    fn damaged(&self, offset: u64, why: &str) -> ReadError {
        let quarantined = self
            .file
            .metadata()
            .map_err(|err| StoreError::io("stat", &self.inner.layout.blob(&self.digest), err))
            .and_then(|metadata| self.inner.quarantine(&self.digest, metadata.ino(), why));
        match quarantined {
            Ok(()) => ReadError::Damaged { digest: self.digest, offset },
            Err(err) => ReadError::Store(err),
        }
    }

    fn failed(&self, doing: &'static str, err: io::Error) -> ReadError {
        ReadError::Store(StoreError::io(doing, &self.inner.layout.blob(&self.digest), err))
    }
}
