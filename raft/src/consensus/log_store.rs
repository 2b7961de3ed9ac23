//! The Raft log and the vote, in one redb file.
//!
//! Always holds: a vote and a truncation are durable before they return; an append is readable
//! when it returns and durable when its callback runs, callbacks in order; no holes. One thread
//! writes, and merges what queued up meanwhile into one durable commit. The committed index rides
//! on the next append and costs no fsync. Never does: decode commands.

mod memory;
mod reader;
mod table;
mod writer;

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use openraft::alias::LogIdOf;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use prometheus_client::metrics::histogram::Histogram;
use redb::{Database, StorageBackend};
use tokio::sync::{oneshot, watch};

use super::ahead::Ahead;
use super::disk::{DiskFile, Synced, Syncs};
use super::reserve::Reserve;
use super::types::{LogId, TypeConfig, Vote};
use super::wire;
use crate::planted::Planted;
use memory::Memory;
pub(crate) use reader::LogReader;
use writer::{Op, Writer};

/// The log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("file: {0}")]
    Database(Box<redb::Error>),
    #[error("content: {0}")]
    Content(#[from] wire::WireError),
}

// An I/O error is one of redb's too.
impl<E: Into<redb::Error>> From<E> for LogError {
    fn from(error: E) -> Self {
        LogError::Database(Box::new(error.into()))
    }
}

/// The log of one node. Clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    memory: Arc<Memory>,
    db: Arc<Database>,
    writer: Arc<Writer>,
    syncs: Syncs,
    ahead: Arc<OnceLock<Ahead>>,
}

impl LogStore {
    /// Opens or makes the log at `path`.
    pub(crate) fn open(path: &Path, reserve: Arc<Reserve>, planted: Planted) -> Result<LogStore, LogError> {
        LogStore::open_on(DiskFile::open(path, reserve)?, planted)
    }

    /// Opens the log on any backend; the seam for tests that cut the power.
    pub(crate) fn open_on(file: impl StorageBackend, planted: Planted) -> Result<LogStore, LogError> {
        let syncs = Syncs::default();
        let backend = Synced { inner: file, syncs: syncs.clone() };
        // The tail that readers ask for is kept encoded in memory: a small page cache does.
        let db = Database::builder().set_cache_size(8 << 20).create_with_backend(backend)?;
        let db = Arc::new(db);
        let memory = Arc::new(Memory::new(table::load(&db)?));
        let writer = Arc::new(Writer::start(db.clone(), memory.clone(), syncs.clone(), planted)?);
        Ok(LogStore { memory, db, writer, syncs, ahead: Arc::default() })
    }

    /// From now on `ahead` is told what is appended.
    pub(crate) fn tell(&self, ahead: Ahead) {
        // It is told once; a second one would look for the same rows.
        let _ = self.ahead.set(ahead);
    }

    /// Whether this node ever voted or stored an entry.
    pub(crate) fn is_used(&self) -> bool {
        self.memory.is_used()
    }

    /// One past the highest index that is durable; changes with each commit.
    pub(crate) fn flushed(&self) -> watch::Receiver<u64> {
        self.memory.flushed()
    }

    /// fsyncs since the start of the process.
    pub(crate) fn fsyncs(&self) -> u64 {
        self.syncs.count.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Keeps fewer of the newest entries in memory, and so on disk when the log is cut.
    pub(crate) fn keep_at_most(&self, bytes: u64) {
        self.memory.keep_at_most(bytes);
    }

    /// How long the fsyncs took.
    pub(crate) fn fsync_seconds(&self) -> Histogram {
        self.syncs.seconds.clone()
    }

    /// Bytes of entries that were appended and not purged.
    pub(crate) fn bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// The first of the newest entries, which are kept in memory; they are worth keeping on disk.
    /// None until there are enough of them.
    pub(crate) fn newest_from(&self) -> Option<u64> {
        self.memory.newest_from()
    }

    /// Waits until everything queued so far is durable.
    pub(crate) async fn flush(&self) -> io::Result<()> {
        self.wait(|done| Op::Flush { committed: self.memory.take_committed(), done }).await
    }

    /// Ends the writer once it has done what is queued, and closes the file with the last clone.
    pub(crate) fn close(&self) {
        self.writer.close();
    }

    async fn wait(&self, op: impl FnOnce(oneshot::Sender<()>) -> Op) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.writer.send(op(done))?;
        wait.await.map_err(|_| io::Error::other("the log's writer has ended"))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<super::types::Entry>, io::Error>
    where
        RB: std::ops::RangeBounds<u64> + Clone + std::fmt::Debug + OptionalSend,
    {
        self.get_log_reader().await.try_get_log_entries(range).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.memory.vote())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        Ok(self.memory.log_state())
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader::new(self.db.clone(), self.memory.clone(), self.writer.planted())
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = *vote;
        self.wait(|done| Op::Vote { vote, done }).await?;
        self.memory.set_vote(vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<TypeConfig>>) -> Result<(), io::Error> {
        self.memory.set_committed(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<TypeConfig>>, io::Error> {
        Ok(self.memory.committed())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = super::types::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        if let Some(ahead) = self.ahead.get() {
            ahead.look(&entries);
        }
        let entries: Vec<_> =
            entries.iter().map(|entry| (entry.log_id(), wire::encode_entry(entry))).collect();
        let bytes = self.memory.append(&entries);
        self.writer.send(Op::Append { entries, committed: self.memory.take_committed(), bytes, callback })
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<TypeConfig>>) -> Result<(), io::Error> {
        self.memory.truncate_after(last);
        self.wait(|done| Op::Truncate { from: last.map_or(0, |id| id.index + 1), done }).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let bytes = self.memory.purge(upto);
        self.wait(|done| Op::Purge { upto, bytes, done }).await
    }
}
