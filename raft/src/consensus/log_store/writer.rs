//! The one thread that writes the log: takes what has queued up, commits it durably as one
//! transaction in the order it came, then reports.
//!
//! Group commit is why a slow disk costs latency and not throughput: while one fsync runs, the
//! next batch gathers. An error ends the process: a log that may have holes acknowledges nothing.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use openraft::storage::IOFlushed;
use prost::Message;
use redb::Database;
use tokio::sync::oneshot;

use super::memory::Memory;
use super::table::{BYTES, COMMITTED, ENTRIES, META, PURGED, VOTE};
use crate::consensus::disk::{Syncs, fatal};
use crate::consensus::types::{LogId, TypeConfig, Vote};
use crate::consensus::wire;
use crate::planted::{Planted, Variant};

/// A commit gathers at most about this many bytes.
const GATHER: usize = 16 << 20;

/// One thing to write. `done` and `callback` run when it is durable.
pub(super) enum Op {
    Append {
        entries: Vec<(LogId, Bytes)>,
        committed: Option<LogId>,
        /// Of the whole log, with these.
        bytes: u64,
        callback: IOFlushed<TypeConfig>,
    },
    Vote {
        vote: Vote,
        done: oneshot::Sender<()>,
    },
    /// Removes everything from `from` on.
    Truncate {
        from: u64,
        done: oneshot::Sender<()>,
    },
    Purge {
        upto: LogId,
        /// Of the whole log, without these.
        bytes: u64,
        done: oneshot::Sender<()>,
    },
    Flush {
        committed: Option<LogId>,
        done: oneshot::Sender<()>,
    },
    Close,
}

impl Op {
    fn bytes(&self) -> usize {
        match self {
            Op::Append { entries, .. } => entries.iter().map(|(_, bytes)| bytes.len()).sum(),
            _ => 0,
        }
    }

    /// Whether the planted rule leaves this one's fsync out.
    fn unsynced(&self, planted: Planted) -> bool {
        match self {
            Op::Append { .. } => planted.is(Variant::SkipFsyncLogAppend),
            Op::Vote { .. } => planted.is(Variant::SkipFsyncVote),
            // C5's rule is both: truncation is durable, and the state waits for the log.
            Op::Truncate { .. } => {
                planted.is(Variant::SkipFsyncTruncate) || planted.is(Variant::C5CheckpointAhead)
            }
            _ => false,
        }
    }
}

pub(super) struct Writer {
    queue: Mutex<Sender<Op>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    planted: Planted,
}

impl Writer {
    pub(super) fn start(
        db: Arc<Database>,
        memory: Arc<Memory>,
        syncs: Syncs,
        planted: Planted,
    ) -> io::Result<Writer> {
        let (queue, ops) = channel();
        let run = move || run(&db, &memory, &syncs, planted, &ops);
        let thread = std::thread::Builder::new().name("raft-log".into()).spawn(run)?;
        Ok(Writer { queue: Mutex::new(queue), thread: Mutex::new(Some(thread)), planted })
    }

    pub(super) fn planted(&self) -> Planted {
        self.planted
    }

    pub(super) fn send(&self, op: Op) -> io::Result<()> {
        let queue = self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        queue.send(op).map_err(|_| io::Error::other("the log's writer has ended"))
    }

    pub(super) fn close(&self) {
        let _ = self.send(Op::Close);
        let thread = self.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

fn run(db: &Database, memory: &Memory, syncs: &Syncs, planted: Planted, queue: &Receiver<Op>) {
    while let Ok(first) = queue.recv() {
        let mut bytes = first.bytes();
        let mut ops = vec![first];
        while bytes < GATHER
            && let Ok(op) = queue.try_recv()
        {
            bytes += op.bytes();
            ops.push(op);
        }
        let close = ops.iter().any(|op| matches!(op, Op::Close));
        let unsynced = ops.iter().all(|op| op.unsynced(planted));
        syncs.skip.store(unsynced, Ordering::SeqCst);
        match write(db, &ops) {
            Ok(end) => {
                if let Some(end) = end {
                    memory.mark_flushed(end);
                }
                ops.into_iter().for_each(report);
            }
            Err(error) => fatal("write of the log", &error),
        }
        syncs.skip.store(false, Ordering::SeqCst);
        if close {
            return;
        }
    }
}

/// Commits `ops` durably, in order; returns one past the last index that they leave, if they say.
fn write(db: &Database, ops: &[Op]) -> Result<Option<u64>, redb::Error> {
    let txn = db.begin_write()?;
    let mut end = None;
    {
        let mut entries = txn.open_table(ENTRIES)?;
        let mut meta = txn.open_table(META)?;
        for op in ops {
            match op {
                Op::Append { entries: new, committed, bytes, .. } => {
                    for (id, bytes) in new {
                        entries.insert(id.index, bytes.as_ref())?;
                        end = Some(id.index + 1);
                    }
                    if let Some(committed) = committed {
                        meta.insert(COMMITTED, wire::encode_log_id(committed).as_ref())?;
                    }
                    meta.insert(BYTES, bytes.to_be_bytes().as_slice())?;
                }
                Op::Vote { vote, .. } => {
                    meta.insert(VOTE, wire::vote_to(vote).encode_to_vec().as_slice())?;
                }
                Op::Truncate { from, .. } => {
                    entries.retain_in(*from.., |_, _| false)?;
                    end = end.map(|end: u64| end.min(*from));
                }
                Op::Purge { upto, bytes, .. } => {
                    meta.insert(PURGED, wire::encode_log_id(upto).as_ref())?;
                    meta.insert(BYTES, bytes.to_be_bytes().as_slice())?;
                    entries.retain_in(..=upto.index, |_, _| false)?;
                    end = end.max(Some(upto.index + 1));
                }
                Op::Flush { committed: Some(committed), .. } => {
                    meta.insert(COMMITTED, wire::encode_log_id(committed).as_ref())?;
                }
                Op::Flush { committed: None, .. } | Op::Close => {}
            }
        }
    }
    txn.commit()?;
    Ok(end)
}

fn report(op: Op) {
    match op {
        Op::Append { callback, .. } => callback.io_completed(Ok(())),
        Op::Vote { done, .. }
        | Op::Truncate { done, .. }
        | Op::Purge { done, .. }
        | Op::Flush { done, .. } => {
            // Whoever asked may have been cancelled; it is done all the same.
            let _ = done.send(());
        }
        Op::Close => {}
    }
}
