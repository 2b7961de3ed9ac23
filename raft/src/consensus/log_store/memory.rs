//! What is known of the log without reading the file: its ends, the vote, and the newest entries.
//!
//! Always holds: every entry that is not durable yet is here, so that an append is readable at
//! once; older ones are kept while they fit, because followers and apply read the tail.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use openraft::storage::LogState;
use tokio::sync::watch;

use super::table::Loaded;
use crate::consensus::types::{LogId, TypeConfig, Vote};

/// Bytes of durable entries kept for readers, unless it is less.
const KEEP: usize = 12 << 20;

pub(super) struct Memory {
    inner: Mutex<Inner>,
    flushed: watch::Sender<u64>,
}

struct Inner {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
    committed: Option<LogId>,
    committed_is_new: bool,
    /// Consecutive, ending with `last`.
    tail: VecDeque<(LogId, Bytes)>,
    tail_bytes: usize,
    /// How many of them are kept once they are durable.
    keep: usize,
    /// Whether older entries than these were in memory.
    tail_is_full: bool,
    log_bytes: u64,
}

impl Memory {
    pub(super) fn new(loaded: Loaded) -> Memory {
        let flushed = watch::Sender::new(loaded.last.map_or(0, |id| id.index + 1));
        let inner = Inner {
            vote: loaded.vote,
            purged: loaded.purged,
            last: loaded.last,
            committed: loaded.committed,
            committed_is_new: false,
            tail: VecDeque::new(),
            tail_bytes: 0,
            keep: KEEP,
            tail_is_full: false,
            log_bytes: loaded.bytes,
        };
        Memory { inner: Mutex::new(inner), flushed }
    }

    pub(super) fn keep_at_most(&self, bytes: u64) {
        let mut inner = self.lock();
        inner.keep = inner.keep.min(usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    pub(super) fn is_used(&self) -> bool {
        let inner = self.lock();
        inner.vote.is_some() || inner.last.is_some()
    }

    pub(super) fn vote(&self) -> Option<Vote> {
        self.lock().vote
    }

    pub(super) fn set_vote(&self, vote: Vote) {
        self.lock().vote = Some(vote);
    }

    pub(super) fn committed(&self) -> Option<LogId> {
        self.lock().committed
    }

    pub(super) fn set_committed(&self, committed: Option<LogId>) {
        let mut inner = self.lock();
        inner.committed_is_new |= inner.committed != committed;
        inner.committed = committed;
    }

    /// The committed id if it was not written yet.
    pub(super) fn take_committed(&self) -> Option<LogId> {
        let mut inner = self.lock();
        if std::mem::take(&mut inner.committed_is_new) { inner.committed } else { None }
    }

    pub(super) fn log_state(&self) -> LogState<TypeConfig> {
        let inner = self.lock();
        LogState { last_purged_log_id: inner.purged, last_log_id: inner.last }
    }

    pub(super) fn flushed(&self) -> watch::Receiver<u64> {
        self.flushed.subscribe()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.lock().log_bytes
    }

    /// Where the tail begins, once it has grown to its length: a start begins without one.
    pub(super) fn newest_from(&self) -> Option<u64> {
        let inner = self.lock();
        // One entry may be more than what is kept.
        let after_last = inner.last.map(|id| id.index + 1);
        let first = inner.tail.front().map(|(id, _)| id.index).or(after_last);
        first.filter(|_| inner.tail_is_full)
    }

    /// Returns the bytes of the log with these.
    pub(super) fn append(&self, entries: &[(LogId, Bytes)]) -> u64 {
        let mut inner = self.lock();
        for (id, bytes) in entries {
            inner.tail_bytes += bytes.len();
            inner.log_bytes += bytes.len() as u64;
            inner.last = Some(*id);
            inner.tail.push_back((*id, bytes.clone()));
        }
        inner.log_bytes
    }

    pub(super) fn truncate_after(&self, last: Option<LogId>) {
        let mut inner = self.lock();
        let keep = |id: &LogId| last.is_some_and(|last| id.index <= last.index);
        while inner.tail.back().is_some_and(|(id, _)| !keep(id)) {
            if let Some((_, bytes)) = inner.tail.pop_back() {
                inner.tail_bytes -= bytes.len();
            }
        }
        inner.last = last.min(inner.last).max(inner.purged);
        self.flushed.send_if_modified(|flushed| {
            let end = last.map_or(0, |id| id.index + 1);
            std::mem::replace(flushed, end.min(*flushed)) > end
        });
    }

    /// Returns the bytes of the log without these.
    pub(super) fn purge(&self, upto: LogId) -> u64 {
        let mut inner = self.lock();
        while inner.tail.front().is_some_and(|(id, _)| id.index <= upto.index) {
            if let Some((_, bytes)) = inner.tail.pop_front() {
                inner.tail_bytes -= bytes.len();
            }
        }
        inner.purged = inner.purged.max(Some(upto));
        // By index: an installed state may stand at an older term than entries that it replaces.
        if inner.last.is_none_or(|last| last.index <= upto.index) {
            inner.last = Some(upto);
        }
        inner.log_bytes = inner.tail_bytes as u64;
        inner.log_bytes
    }

    /// Everything below `end` is durable: announces it and forgets the oldest beyond what is kept.
    pub(super) fn mark_flushed(&self, end: u64) {
        let mut inner = self.lock();
        // A truncation may have overtaken the commit that is reported here.
        let end = end.min(inner.last.map_or(0, |id| id.index + 1));
        self.flushed.send_if_modified(|flushed| std::mem::replace(flushed, end.max(*flushed)) < end);
        while inner.tail_bytes > inner.keep && inner.tail.front().is_some_and(|(id, _)| id.index < end) {
            if let Some((_, bytes)) = inner.tail.pop_front() {
                inner.tail_bytes -= bytes.len();
                inner.tail_is_full = true;
            }
        }
    }

    /// Splits `range` into what must be read from the file and the entries that are here.
    pub(super) fn read(&self, range: Range<u64>, max_bytes: usize) -> (Range<u64>, Vec<Bytes>) {
        let inner = self.lock();
        let end = range.end.min(inner.last.map_or(0, |id| id.index + 1));
        let start = range.start.max(inner.purged.map_or(0, |id| id.index + 1));
        let first = inner.tail.front().map_or(end, |(id, _)| id.index);
        let on_disk = start..end.min(first).max(start);
        let mut here = Vec::new();
        let mut bytes = 0;
        if on_disk.is_empty() || max_bytes == usize::MAX {
            let skip = (start.max(first) - first) as usize;
            for (_, entry) in inner.tail.iter().skip(skip).take_while(|(id, _)| id.index < end) {
                bytes += entry.len();
                if !here.is_empty() && bytes > max_bytes {
                    break;
                }
                here.push(entry.clone());
            }
        }
        (on_disk, here)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
