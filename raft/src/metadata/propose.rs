//! Proposing: a number for each command, bounds on what is in flight, and retries that keep the
//! number.
//!
//! Always holds: at most [`OUTCOMES`] numbers are outstanding, counted from the oldest, so that
//! the outcome of none is forgotten while it may still be retried; at most
//! [`PROPOSALS_IN_FLIGHT`] bytes are. A retry after an unknown outcome carries the same number
//! and is applied once, whoever leads by then.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::leader::Proposed;
use super::{Metadata, ProposeError};
use crate::codec;
use crate::command::{Applied, Command, Envelope};
use crate::consensus::network::client;
use crate::id::NodeId;
use crate::limits::{ENTRY_MAX, OUTCOMES, PROPOSALS_IN_FLIGHT};
use crate::planted::Variant;
use crate::proto::raft as pb;

/// How long a proposal waits for a leader or for room.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a proposal that may be under way is retried before its outcome is called unknown.
const LIMIT: Duration = Duration::from_secs(15);
/// How long a command that is committed may take to be applied here too.
const HERE: Duration = Duration::from_secs(1);

pub(super) struct Proposer {
    node: NodeId,
    boot: u64,
    window: Mutex<Window>,
    freed: Notify,
    bytes: Semaphore,
}

struct Window {
    next: u64,
    open: BTreeSet<u64>,
}

/// An outstanding number; given back when dropped.
pub(super) struct Number<'a> {
    proposer: &'a Proposer,
    seq: u64,
}

impl Number<'_> {
    /// `command` under this number.
    pub(super) fn envelope(&self, actor: &str, command: Command) -> Envelope {
        Envelope {
            node: self.proposer.node,
            boot: self.proposer.boot,
            seq: self.seq,
            now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64),
            actor: actor.to_owned(),
            level: command.level(),
            command,
        }
    }
}

impl Proposer {
    pub(super) fn new(node: NodeId, boot: u64) -> Proposer {
        let window = Mutex::new(Window { next: 1, open: BTreeSet::new() });
        Proposer { node, boot, window, freed: Notify::new(), bytes: Semaphore::new(PROPOSALS_IN_FLIGHT) }
    }

    fn try_number(&self) -> Option<Number<'_>> {
        let mut window = self.window.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let seq = window.next;
        // The apply side forgets what is OUTCOMES behind the highest it saw.
        if window.open.first().is_some_and(|oldest| seq - oldest >= OUTCOMES) {
            return None;
        }
        window.next += 1;
        window.open.insert(seq);
        Some(Number { proposer: self, seq })
    }

    /// The next number, once there is room for it.
    pub(super) async fn number(&self) -> Number<'_> {
        loop {
            let freed = self.freed.notified();
            if let Some(number) = self.try_number() {
                return number;
            }
            freed.await;
        }
    }
}

impl Drop for Number<'_> {
    fn drop(&mut self) {
        let mut window = self.proposer.window.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        window.open.remove(&self.seq);
        drop(window);
        self.proposer.freed.notify_waiters();
    }
}

/// Which call of the leader an envelope goes to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    Propose,
    Join,
}

impl Metadata {
    /// Proposes `command` on behalf of `actor`; waits up to 5 s for a leader, and up to 1 s until
    /// it is applied here too.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(&self, actor: &str, command: Command) -> Result<Applied, ProposeError> {
        self.submit(actor, command, Via::Propose).await
    }

    pub(super) async fn submit(
        &self,
        actor: &str,
        command: Command,
        via: Via,
    ) -> Result<Applied, ProposeError> {
        let began = Instant::now();
        let result = self.bring_through(actor, command, via).await;
        self.0.machine.meter().proposed(&result, began.elapsed());
        result
    }

    async fn bring_through(&self, actor: &str, command: Command, via: Via) -> Result<Applied, ProposeError> {
        self.allows(command.level())?;
        let proposer = &self.0.proposer;
        let deadline = Instant::now() + PATIENCE;
        let number = tokio::time::timeout_at(deadline, proposer.number());
        let number = number.await.map_err(|_| ProposeError::Busy)?;
        let envelope = codec::encode_envelope(&number.envelope(actor, command));
        if envelope.len() > ENTRY_MAX && !self.0.settings.planted.is(Variant::C7Unbounded) {
            return Err(ProposeError::TooLarge(envelope.len()));
        }
        let bytes = envelope.len().min(PROPOSALS_IN_FLIGHT) as u32;
        let room = tokio::time::timeout_at(deadline, proposer.bytes.acquire_many(bytes)).await;
        let _room = room.map_err(|_| ProposeError::Busy)?.map_err(|_| ProposeError::NoLeader)?;

        let applied = self.deliver(envelope, via).await?;
        self.applied_within(applied.index, HERE).await;
        Ok(applied)
    }

    /// Tries leaders until one gives an outcome.
    async fn deliver(&self, envelope: Bytes, via: Via) -> Result<Applied, ProposeError> {
        let start = Instant::now();
        // Set once an attempt may have reached a log.
        let mut unknown: Option<String> = None;
        let mut busy = false;
        loop {
            let limit = if unknown.is_some() && self.leadership().quorum { LIMIT } else { PATIENCE };
            if start.elapsed() >= limit {
                return Err(match unknown {
                    Some(why) => ProposeError::Unknown(why),
                    None if busy => ProposeError::Busy,
                    None => ProposeError::NoLeader,
                });
            }
            match self.attempt(envelope.clone(), via, start).await {
                Proposed::Applied(bytes) => {
                    return codec::decode_applied(bytes)
                        .map_err(|error| ProposeError::Unknown(error.to_string()));
                }
                Proposed::Refused(why) => return Err(ProposeError::Refused(why)),
                Proposed::Unknown(why) => unknown = Some(why),
                Proposed::Busy => busy = true,
                Proposed::Forward => {}
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }

    /// One attempt at whoever leads now; given up when somebody else does.
    async fn attempt(&self, envelope: Bytes, via: Via, start: Instant) -> Proposed {
        let Some(leader) = self.raft_leader() else { return Proposed::Forward };
        let call = async {
            match (leader == self.id(), via) {
                (true, Via::Propose) => self.lead_proposal(envelope).await,
                (true, Via::Join) => self.lead_join(envelope).await,
                (false, _) => self.forward(leader, envelope, via).await,
            }
        };
        tokio::select! {
            proposed = call => proposed,
            () = self.leader_is_not(leader) => Proposed::Unknown(format!("the leader {} was replaced", self.called(leader))),
            () = self.patience_ends(start) => Proposed::Unknown(format!("the leader {} does not answer", self.called(leader))),
        }
    }

    /// Ends when a proposal that began at `start` is not worth waiting for: at its limit, or
    /// earlier when there is no quorum.
    async fn patience_ends(&self, start: Instant) {
        let no_quorum = async {
            tokio::time::sleep_until(start + PATIENCE).await;
            let mut leadership = self.leadership_watch();
            if leadership.wait_for(|leadership| !leadership.quorum).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = no_quorum => {}
            () = tokio::time::sleep_until(start + LIMIT) => {}
        }
    }

    /// A member as people call it; its id where its name is not known.
    fn called(&self, node: NodeId) -> String {
        let members = self.local().members().unwrap_or_default();
        members
            .into_iter()
            .find(|member| member.id == node)
            .map_or_else(|| node.to_string(), |member| member.name)
    }

    fn annotated<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        (self.0.settings.annotate)(request.metadata_mut());
        request
    }

    async fn forward(&self, leader: NodeId, envelope: Bytes, via: Via) -> Proposed {
        use pb::propose_reply::Result as R;
        let mut client = match client(&self.0.settings.connect, leader).await {
            Ok(client) => client,
            // Nothing was sent.
            Err(_) => return Proposed::Forward,
        };
        let reply = match via {
            Via::Propose => client.propose(self.annotated(pb::ProposeRequest { envelope })).await,
            Via::Join => client.join(self.annotated(pb::JoinRequest { envelope })).await,
        };
        match reply.map(|reply| reply.into_inner().result) {
            Ok(Some(R::Applied(bytes))) => Proposed::Applied(bytes),
            Ok(Some(R::Forward(_))) => Proposed::Forward,
            Ok(Some(R::Unknown(why))) => Proposed::Unknown(why),
            Ok(Some(R::Refused(why))) => Proposed::Refused(why),
            Ok(Some(R::Busy(_))) => Proposed::Busy,
            Ok(None) => Proposed::Unknown("the leader's reply is empty".into()),
            Err(status) => {
                Proposed::Unknown(format!("the leader {}: {}", self.called(leader), status.message()))
            }
        }
    }
}
