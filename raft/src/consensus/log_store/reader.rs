//! Reading the log, bounded in bytes where the caller may come back for more.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use openraft::{OptionalSend, RaftLogReader};
use redb::{Database, ReadableDatabase};

use super::memory::Memory;
use super::table::ENTRIES;
use crate::consensus::too_old::too_old;
use crate::consensus::types::{Entry, TypeConfig, Vote};
use crate::consensus::wire::{self, WireError};
use crate::limits::BATCH_MAX;
use crate::planted::{Planted, Variant};

/// Entries are handed to apply in pieces of about this many bytes.
const STREAM_BYTES: usize = 4 << 20;

/// A handle for one reader. Cheap to make.
#[derive(Clone)]
pub(crate) struct LogReader {
    db: Arc<Database>,
    memory: Arc<Memory>,
    planted: Planted,
}

impl LogReader {
    pub(super) fn new(db: Arc<Database>, memory: Arc<Memory>, planted: Planted) -> Self {
        LogReader { db, memory, planted }
    }

    /// Entries of `range`, in order, at most `max_bytes` of them but never none.
    async fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Entry>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let (on_disk, here) = self.memory.read(range, max_bytes);
        let mut raw = Vec::new();
        if !on_disk.is_empty() {
            let db = self.db.clone();
            let read = tokio::task::spawn_blocking(move || read_file(&db, on_disk, max_bytes));
            raw = read.await.map_err(io::Error::other)??;
        }
        raw.extend(here);
        raw.into_iter().map(entry).collect()
    }
}

/// An entry of this node's own log.
fn entry(bytes: Bytes) -> io::Result<Entry> {
    match wire::decode_entry(bytes) {
        Err(error @ WireError::Newer) => too_old(&error),
        decoded => Ok(decoded?),
    }
}

fn read_file(db: &Database, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Bytes>> {
    let txn = db.begin_read().map_err(io::Error::other)?;
    let table = txn.open_table(ENTRIES).map_err(io::Error::other)?;
    let mut entries = Vec::new();
    let mut bytes = 0;
    for row in table.range(range).map_err(io::Error::other)? {
        let (_, value) = row.map_err(io::Error::other)?;
        bytes += value.value().len();
        if !entries.is_empty() && bytes > max_bytes {
            break;
        }
        entries.push(Bytes::copy_from_slice(value.value()));
    }
    Ok(entries)
}

fn bounds(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.read(bounds(&range), usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let max_bytes = if self.planted.is(Variant::C7Unbounded) { usize::MAX } else { BATCH_MAX };
        self.read(start..end, max_bytes).await
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let range = bounds(&range);
        let pieces = stream::try_unfold((self.clone(), range), |(reader, range)| async move {
            let entries = reader.read(range.clone(), STREAM_BYTES).await?;
            let Some(last) = entries.last() else { return Ok::<_, io::Error>(None) };
            let rest = last.log_id.index + 1..range.end;
            Ok(Some((stream::iter(entries.into_iter().map(Ok)), (reader, rest))))
        });
        pieces.flat_map(|piece| match piece {
            Ok(entries) => entries.left_stream(),
            Err(error) => stream::iter([Err(error)]).right_stream(),
        })
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.memory.vote())
    }
}
