//! Whose snapshot is received.
//!
//! Always holds: one is received at a time; that of the leader which is followed takes the place of
//! any other and is interrupted by nobody else; of others the newest takes the place of the one
//! before. Never does: know who leads.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use crate::consensus::types::Vote;
use crate::id::NodeId;

/// Who sends a snapshot, and as the leader of which vote.
pub(super) type Sender = (NodeId, Vote);

/// Which snapshot is being received.
#[derive(Default)]
pub(in crate::metadata) struct Receiving {
    /// Held by whoever receives one.
    turn: Arc<Mutex<()>>,
    newest: watch::Sender<Newest>,
}

/// The newest that was begun.
#[derive(Clone, Copy, Default)]
struct Newest {
    number: u64,
    /// Whose it is, until it ends.
    from: Option<Sender>,
}

/// One that was begun, and has not come to its end.
pub(super) struct Begun {
    number: u64,
    /// In whose place it is received.
    pub(super) instead_of: Option<NodeId>,
    newest: watch::Sender<Newest>,
}

impl Receiving {
    /// Begins one, in the place of another that hears of it at once; none while that of the leader
    /// who is `followed` is received.
    pub(super) fn begin(&self, from: Sender, followed: Option<Sender>) -> Option<Begun> {
        let (mut number, mut instead_of) = (None, None);
        self.newest.send_if_modified(|newest| {
            if newest.from.is_some() && newest.from == followed && followed != Some(from) {
                return false;
            }
            instead_of = newest.from.map(|(peer, _)| peer);
            *newest = Newest { number: newest.number + 1, from: Some(from) };
            number = Some(newest.number);
            true
        });
        number.map(|number| Begun { number, instead_of, newest: self.newest.clone() })
    }

    /// Waits until the one before has come to its end.
    pub(super) async fn turn(&self) -> OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }
}

impl Begun {
    /// Waits until another takes its place.
    pub(super) fn replaced(&self) -> impl Future<Output = ()> + Send + use<> {
        let (mut newest, number) = (self.newest.subscribe(), self.number);
        async move {
            // The sender lives as long as the node.
            let _ = newest.wait_for(|newest| newest.number > number).await;
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.newest.send_if_modified(|newest| {
            newest.from = newest.from.filter(|_| newest.number != self.number);
            // Nobody waits for it.
            false
        });
    }
}

#[cfg(test)]
mod tests;
