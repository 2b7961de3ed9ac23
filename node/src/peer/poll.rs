//! Keeps the table of peers true: follows the members in the state, asks each how it is, and
//! looks for those that moved.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use trow_raft::{Metadata, NodeId};

use super::dial::DialError;
use super::hello::HelloAnswer;
use super::status::PeerStatus;
use super::traffic::Kind;
use super::{Peers, control, dial};

/// How often each member is asked how it is, and how long it may take.
const POLL: Duration = Duration::from_millis(500);
const ANSWER: Duration = Duration::from_secs(1);
/// The state's members are looked at no more often than this.
const FOLLOW: Duration = Duration::from_millis(50);
/// A member silent for this long is looked for at the join addresses, this often.
const MISSING: Duration = Duration::from_secs(2);
/// A hello takes at most this long, connecting included.
const HELLO: Duration = Duration::from_secs(4);

/// Keeps cluster id and members as the state has them.
pub(super) async fn follow(peers: Peers, metadata: Metadata) {
    let inner = &peers.0;
    let mut applied = metadata.applied();
    loop {
        applied.mark_unchanged();
        let view = metadata.local();
        if let (Ok(Some(cluster)), Ok(members)) = (view.cluster(), view.members()) {
            peers.set_cluster(cluster);
            inner.table.set_members(&members, &metadata.voters(), |id| view.removed(id).unwrap_or(false));
            if view.removed(peers.id()).unwrap_or(false) {
                inner.removed.send_replace(true);
            }
        }
        drop(view);
        tokio::select! {
            () = inner.closing.cancelled() => return,
            changed = applied.changed() => if changed.is_err() { return },
        }
        tokio::time::sleep(FOLLOW).await;
    }
}

/// Asks each member how it is, for as long as the process lives.
pub(super) async fn poll(peers: Peers) {
    let mut tick = interval(POLL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut asking, mut busy) = (JoinSet::new(), BTreeSet::new());
    let mut silent = BTreeSet::new();
    let (mut search, mut searched) = (JoinSet::new(), tokio::time::Instant::now());
    loop {
        tokio::select! {
            () = peers.0.closing.cancelled() => return,
            Some(Ok(node)) = asking.join_next() => { busy.remove(&node); }
            Some(_) = search.join_next() => {}
            _ = tick.tick() => {
                notice(&peers, &mut silent);
                for member in peers.0.table.members() {
                    if busy.insert(member.id) {
                        let peers = peers.clone();
                        asking.spawn(async move {
                            let _ = ask(&peers, member.id, false, ANSWER).await;
                            member.id
                        });
                    }
                }
                if search.is_empty() && searched.elapsed() > MISSING && is_anyone_missing(&peers) {
                    searched = tokio::time::Instant::now();
                    let peers = peers.clone();
                    search.spawn(async move { hello_all(&peers).await });
                }
            }
        }
    }
}

/// Says once of each member that it fell silent, and once that it is back.
fn notice(peers: &Peers, silent: &mut BTreeSet<NodeId>) {
    for seen in peers.0.table.members() {
        let Some(silence) = seen.silence else { continue };
        let is_silent = silence > MISSING;
        if is_silent && silent.insert(seen.id) {
            tracing::warn!(node = %seen.id, name = seen.name, "a member is silent; start it again, and see `trow cluster status` for when its blobs are copied elsewhere");
        } else if !is_silent && silent.remove(&seen.id) {
            tracing::info!(node = %seen.id, name = seen.name, "a member is heard again");
        }
    }
}

fn is_anyone_missing(peers: &Peers) -> bool {
    let table = &peers.0.table;
    let silent = |silence: Option<Duration>| silence.is_none_or(|silence| silence > MISSING);
    let mut members = table.members().into_iter();
    !peers.0.join.is_empty() && members.any(|seen| silent(seen.silence) && !table.is_overridden(seen.id))
}

async fn ask(peers: &Peers, node: NodeId, audit: bool, limit: Duration) -> Option<PeerStatus> {
    let channel = peers.channel(node, Kind::Control).ok()?;
    match timeout(limit, control::status(peers, channel, audit)).await {
        Ok(Ok(Some(status))) => {
            peers.0.table.touch(node);
            Some(status)
        }
        Ok(Ok(None)) => {
            if !peers.0.removed.send_replace(true) {
                tracing::warn!(by = %node, "this node was removed from the cluster and ends; started again with --join it joins under a new id");
            }
            None
        }
        Ok(Err(cause)) => {
            tracing::debug!(%node, %cause, "peer did not say how it is");
            None
        }
        Err(_) => None,
    }
}

/// Asks every member at once, audit included.
pub(super) async fn status_all(peers: &Peers, limit: Duration) -> Vec<(NodeId, Option<PeerStatus>)> {
    let members = peers.0.table.members();
    join_all(members.into_iter().map(|seen| async move { (seen.id, ask(peers, seen.id, true, limit).await) }))
        .await
}

/// Why an address gave no answer.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// In words, with the address.
    pub(crate) why: String,
    /// The node there has another cluster directory.
    pub(crate) is_stranger: bool,
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure { why, is_stranger: false }
    }
}

/// Says hello at every join address at once. Gives the answers, one per node and none of this
/// node itself, and why the other addresses gave none.
pub(crate) async fn hello_all(peers: &Peers) -> (Vec<HelloAnswer>, Vec<Failure>) {
    let addresses = dial::resolve(&peers.0.join).await;
    let asked = join_all(addresses.into_iter().map(|address| async move {
        let address = address.to_string();
        let answer = timeout(HELLO, hello_at(peers, &address)).await;
        answer
            .unwrap_or_else(|_| Err(Failure::from("it took too long".to_owned())))
            .map_err(|failure| Failure { why: format!("{address}: {}", failure.why), ..failure })
    }))
    .await;
    let (mut answers, mut failures): (Vec<HelloAnswer>, Vec<Failure>) = (Vec::new(), Vec::new());
    for result in asked {
        match result {
            Ok(Some(answer)) if answers.iter().all(|other| other.node.id != answer.node.id) => {
                answers.push(answer);
            }
            Ok(_) => {}
            Err(why) => failures.push(why),
        }
    }
    (answers, failures)
}

async fn hello_at(peers: &Peers, address: &str) -> Result<Option<HelloAnswer>, Failure> {
    let dialled = dial::address_as(&peers.0, address, None, Kind::Control).await;
    let dialled = dialled.map_err(|error| Failure {
        why: error.to_string(),
        is_stranger: matches!(error, DialError::OtherDirectory { .. }),
    })?;
    let node = dialled.node;
    if node == peers.id() {
        return Ok(None);
    }
    let channel = dial::channel_over(dialled).await.map_err(|error| error.to_string())?;
    let answer = control::hello(peers, channel, node).await?;
    peers.0.table.heard_at(&answer.node, address);
    Ok(Some(answer))
}

impl Peers {
    /// As [`hello_all`].
    pub(crate) async fn hello_all(&self) -> (Vec<HelloAnswer>, Vec<Failure>) {
        hello_all(self).await
    }

    /// Presents `card` from now on. What it calls bound must be on disk already.
    pub(crate) fn present(&self, card: super::Card) {
        self.0.card.store(std::sync::Arc::new(card));
    }

    /// These are expected to be members until the state says who is.
    pub(crate) fn expect_members(&self, members: &[trow_raft::Member]) {
        self.0.table.expect_members(members);
    }

    /// Asks `node` to make this one a member of its cluster.
    pub(crate) async fn join_through(&self, node: NodeId) -> Result<trow_raft::ClusterId, String> {
        let channel = self.channel(node, Kind::Control).map_err(|error| error.to_string())?;
        control::join(self, channel).await
    }
}
