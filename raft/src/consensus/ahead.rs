//! Looking for the rows that entries need before they are applied.
//!
//! An entry that is appended is applied about a round trip and an fsync later. What applying it
//! will look for in the state's file is looked for in that time, so that apply, which does one
//! thing after the other, finds those pages in memory and does not wait for a disk.
//!
//! Always holds: it changes nothing, and nobody waits for it; who comes while it is behind is left
//! out. Never does: decide anything by what it finds, or report errors: apply meets them again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use openraft::entry::RaftEntry as _;

use super::machine::Machine;
use super::types::{Encoded, Entry};
use crate::codec;
use crate::state::View;

/// Appends that may wait, and bytes of their entries: an append alone may have `limits::BATCH_MAX`.
const WAITING: usize = 64;
const WAITING_BYTES: usize = 4 << 20;

/// Looks ahead for one log, on a thread of its own that ends with it.
#[derive(Debug)]
pub(crate) struct Ahead {
    queue: SyncSender<Appended>,
    /// Bytes of the entries that wait.
    bytes: Arc<AtomicUsize>,
}

/// What an append brought.
#[derive(Debug)]
struct Appended {
    /// With the index of each.
    envelopes: Vec<(u64, Encoded)>,
    bytes: usize,
}

impl Ahead {
    /// For entries that `machine` will apply.
    pub(crate) fn of(machine: &Machine) -> io::Result<Ahead> {
        Ahead::with(machine.rows())
    }

    /// In the rows that `rows` gives, as long as it gives any.
    fn with(rows: impl Fn() -> Option<View> + Send + 'static) -> io::Result<Ahead> {
        let (queue, appended) = sync_channel(WAITING);
        let bytes = Arc::new(AtomicUsize::new(0));
        let waiting = bytes.clone();
        thread::Builder::new().name("raft-ahead".into()).spawn(move || run(&appended, &waiting, rows))?;
        Ok(Ahead { queue, bytes })
    }

    /// Looks for what these entries need, unless there is too much to do.
    pub(super) fn look(&self, entries: &[Entry]) {
        let with_index = |entry: &Entry| Some((entry.log_id().index, entry.payload.envelope.clone()?));
        let envelopes: Vec<_> = entries.iter().filter_map(with_index).collect();
        let bytes: usize = envelopes.iter().map(|(_, envelope)| envelope.0.len()).sum();
        // Left out when the thread is behind. Who appends is one, so nobody adds between the look and the sum.
        if envelopes.is_empty() || self.bytes.load(Ordering::Relaxed) + bytes > WAITING_BYTES {
            return;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.queue.try_send(Appended { envelopes, bytes }).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

fn run(queue: &Receiver<Appended>, waiting: &AtomicUsize, rows: impl Fn() -> Option<View>) {
    while let Ok(Appended { envelopes, bytes }) = queue.recv() {
        waiting.fetch_sub(bytes, Ordering::Relaxed);
        let Some(view) = rows() else { return };
        // Whoever applies says what is wrong with the file.
        let applied = view.applied().unwrap_or(0);
        for (index, envelope) in envelopes {
            // Apply was faster.
            if index <= applied {
                continue;
            }
            if let Ok(envelope) = codec::decode_envelope(envelope.0) {
                let _ = view.look_ahead(&envelope.command);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::consensus::types::Payload;
    use crate::consensus::wire;
    use crate::proto::raft as pb;
    use crate::state::State;

    fn entry(index: u64) -> Entry {
        entry_of(index, Bytes::from_static(b"no envelope"))
    }

    fn entry_of(index: u64, envelope: Bytes) -> Entry {
        let id = wire::log_id_from(pb::LogId { term: 1, index, node: 1 });
        Entry::new(id, Payload { envelope: Some(Encoded(envelope)), membership: None })
    }

    #[test]
    fn whoever_appends_never_waits_and_what_cannot_be_read_is_passed_over() {
        let state = State::in_memory().unwrap();
        let (asked, asks) = channel();
        let (go_on, goes_on) = channel::<()>();
        let ahead = Ahead::with(move || {
            asked.send(()).ok()?;
            // Ends with the test if nobody says that it may go on.
            goes_on.recv().ok()?;
            state.view().ok()
        });
        let ahead = ahead.unwrap();
        ahead.look(&[entry(1)]);
        let soon = Duration::from_secs(60);
        asks.recv_timeout(soon).unwrap();
        // It stands still now.
        for index in 0..10 {
            ahead.look(&[entry_of(index, vec![0; WAITING_BYTES / 4].into())]);
        }
        let waiting = ahead.bytes.load(Ordering::Relaxed);
        assert!((WAITING_BYTES / 4..=WAITING_BYTES).contains(&waiting), "{waiting} bytes wait");
        for index in 0..3 * WAITING as u64 {
            ahead.look(&[entry(index)]);
        }
        go_on.send(()).unwrap();
        asks.recv_timeout(soon).unwrap();
        drop(go_on);
    }

    #[test]
    fn it_ends_with_the_machine_and_with_the_log() {
        let (asked, asks) = channel();
        let ahead = Ahead::with(move || asked.send(()).ok().and(None)).unwrap();
        ahead.look(&[entry(1)]);
        let soon = Duration::from_secs(60);
        asks.recv_timeout(soon).unwrap();
        // What the thread had is gone with it, and nobody minds.
        assert_eq!(asks.recv_timeout(soon), Err(RecvTimeoutError::Disconnected));
        ahead.look(&[entry(2)]);
        let (kept, gone) = channel::<()>();
        let ahead = Ahead::with(move || kept.send(()).ok().and(None)).unwrap();
        drop(ahead);
        assert_eq!(gone.recv_timeout(soon), Err(RecvTimeoutError::Disconnected));
    }
}
