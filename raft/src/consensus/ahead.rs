//! Looking for the rows that entries need before they are applied.
//!
//! An entry that is appended is applied about a round trip and an fsync later. What applying it
//! will look for in the state's file is looked for in that time, so that apply, which does one
//! thing after the other, finds those pages in memory and does not wait for a disk.
//!
//! Always holds: it changes nothing, and nobody waits for it; who comes while it is behind is left
//! out. Never does: decide anything by what it finds, or report errors: apply meets them again.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::machine::Machine;
use super::types::{Encoded, Entry};
use crate::codec;
use crate::state::View;

/// Appends that may wait. They hold their entries, which the log holds in memory too.
const WAITING: usize = 64;

/// Looks ahead for one log, on a thread of its own that ends with it.
#[derive(Debug)]
pub(crate) struct Ahead(SyncSender<Vec<Encoded>>);

impl Ahead {
    /// For entries that `machine` will apply.
    pub(crate) fn of(machine: &Machine) -> io::Result<Ahead> {
        Ahead::with(machine.rows())
    }

    /// In the rows that `rows` gives, as long as it gives any.
    fn with(rows: impl Fn() -> Option<View> + Send + 'static) -> io::Result<Ahead> {
        let (appended, queue) = sync_channel(WAITING);
        thread::Builder::new().name("raft-ahead".into()).spawn(move || run(&queue, rows))?;
        Ok(Ahead(appended))
    }

    /// Looks for what these entries need, unless there is too much to do.
    pub(super) fn look(&self, entries: &[Entry]) {
        let envelopes: Vec<_> = entries.iter().filter_map(|entry| entry.payload.envelope.clone()).collect();
        if !envelopes.is_empty() {
            // Left out when the thread is behind.
            let _ = self.0.try_send(envelopes);
        }
    }
}

fn run(queue: &Receiver<Vec<Encoded>>, rows: impl Fn() -> Option<View>) {
    while let Ok(envelopes) = queue.recv() {
        let Some(view) = rows() else { return };
        for envelope in envelopes {
            if let Ok(envelope) = codec::decode_envelope(envelope.0) {
                // Whoever applies it says what is wrong with the file.
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
    use openraft::entry::RaftEntry as _;

    use super::*;
    use crate::consensus::types::Payload;
    use crate::consensus::wire;
    use crate::proto::raft as pb;
    use crate::state::State;

    fn entry(index: u64) -> Entry {
        let id = wire::log_id_from(pb::LogId { term: 1, index, node: 1 });
        let envelope = Some(Encoded(Bytes::from_static(b"no envelope")));
        Entry::new(id, Payload { envelope, membership: None })
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
