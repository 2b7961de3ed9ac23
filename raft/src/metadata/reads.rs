//! Confirmed reads (ReadIndex), coalesced.
//!
//! Always holds: a read joins only a round that starts after it arrived, since a round that was
//! already sent may miss a write acknowledged in between. One round runs at a time; whoever comes
//! meanwhile shares the next. Never does: reading by lease, which a paused process breaks.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::leader::ReadRefused;
use super::{Metadata, NoQuorum, View};
use crate::consensus::network::client;
use crate::planted::Variant;
use crate::proto::raft as pb;

/// A round that takes longer has failed.
const ROUND: Duration = Duration::from_millis(600);
/// How long a starting node looks for a quorum before it serves digests without.
const FIRST: Duration = Duration::from_secs(3);

type Waiter = oneshot::Sender<Option<u64>>;

pub(super) struct Rounds {
    ask: mpsc::UnboundedSender<Waiter>,
}

impl Rounds {
    pub(super) fn new() -> (Rounds, mpsc::UnboundedReceiver<Waiter>) {
        let (ask, asked) = mpsc::unbounded_channel();
        (Rounds { ask }, asked)
    }
}

impl Metadata {
    /// A snapshot that sees everything acknowledged anywhere before this call.
    ///
    /// # Errors
    /// No quorum confirmed it within `wait`.
    pub async fn read(&self, wait: Duration) -> Result<View, NoQuorum> {
        self.confirm(wait).await?;
        Ok(self.local())
    }

    /// Returns once what is applied here holds everything acknowledged anywhere before this call.
    ///
    /// # Errors
    /// No quorum confirmed it within `wait`.
    pub async fn confirm(&self, wait: Duration) -> Result<(), NoQuorum> {
        let deadline = Instant::now() + wait;
        loop {
            if let Ok(Some(index)) = tokio::time::timeout_at(deadline, self.read_index()).await {
                let left = deadline.saturating_duration_since(Instant::now());
                if self.applied_within(index, left).await {
                    return Ok(());
                }
            }
            if Instant::now() >= deadline {
                return Err(NoQuorum { since: self.no_quorum_since() });
            }
            let pause = Instant::now() + Duration::from_millis(30);
            tokio::time::sleep_until(pause.min(deadline)).await;
        }
    }

    fn no_quorum_since(&self) -> std::time::SystemTime {
        let leadership = self.leadership();
        // The quorum may have gone so recently that it is not noticed yet.
        if leadership.quorum { std::time::SystemTime::now() } else { leadership.since }
    }

    /// Joins the next round.
    async fn read_index(&self) -> Option<u64> {
        let (answer, wait) = oneshot::channel();
        self.0.rounds.ask.send(answer).ok()?;
        wait.await.ok().flatten()
    }

    async fn round(&self) -> Option<u64> {
        let leader = self.raft_leader()?;
        if leader == self.id() {
            return match self.lead_read().await {
                Ok(index) => Some(index),
                Err(ReadRefused::Forward) => None,
                Err(ReadRefused::NoQuorum(why)) => {
                    tracing::debug!(why, "no quorum confirmed a read");
                    None
                }
            };
        }
        let mut client = client(&self.0.settings.connect, leader).await.ok()?;
        let reply = client.read_index(pb::ReadIndexRequest {}).await.ok()?;
        match reply.into_inner().result? {
            pb::read_index_reply::Result::Index(index) => Some(index),
            _ => None,
        }
    }
}

/// Runs the rounds.
pub(super) async fn run_rounds(metadata: Metadata, mut asked: mpsc::UnboundedReceiver<Waiter>) {
    let late_joiners = metadata.0.settings.planted.is(Variant::H3JoinSentRound);
    while let Some(first) = asked.recv().await {
        let mut waiters = vec![first];
        while let Ok(waiter) = asked.try_recv() {
            waiters.push(waiter);
        }
        let index = tokio::time::timeout(ROUND, metadata.round()).await.ok().flatten();
        while late_joiners && let Ok(waiter) = asked.try_recv() {
            waiters.push(waiter);
        }
        metadata.0.machine.meter().round(index.is_some(), waiters.len());
        for waiter in waiters {
            // Whoever stopped waiting needs no answer.
            let _ = waiter.send(index);
        }
    }
}

/// Lets digest hits be served once a read was confirmed, or no quorum was found.
pub(super) async fn first_read(metadata: Metadata) {
    if metadata.read(FIRST).await.is_err() {
        tracing::info!("no quorum yet; serving by digest what is here");
    }
    metadata.0.started.send_replace(true);
}
