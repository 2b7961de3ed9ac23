//! Who is where, and when each was last heard.
//!
//! Always holds: an entry is about a proven node id. Never does: I/O; decide who is a member (the
//! state does).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use trow_raft::{Member, NodeId};

/// Nodes that are not members are remembered up to this many; members always.
const STRANGERS_MAX: usize = 256;

/// A member, and when it was last heard.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it is called.
    pub name: String,
    /// Who.
    pub id: NodeId,
    /// How long it has been silent; `None` when it was never heard in this process.
    pub silence: Option<Duration>,
}

#[derive(Default)]
struct Entry {
    member: bool,
    removed: bool,
    name: String,
    /// As the state has it.
    recorded: String,
    /// As it said itself, or where it was found; newer than `recorded`.
    heard: Option<String>,
    last_seen: Option<Instant>,
}

pub(super) struct Table {
    me: NodeId,
    dial: BTreeMap<String, String>,
    entries: Mutex<BTreeMap<NodeId, Entry>>,
}

impl Table {
    pub(super) fn new(me: NodeId, dial: BTreeMap<String, String>) -> Table {
        Table { me, dial, entries: Mutex::default() }
    }

    // Nothing in here panics half way through a change, so a poisoned lock's content is whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The members are these; `removed` tells of those that are no longer. A voter is one even
    /// when the state has no row of it: a cluster votes before its first members are written down.
    /// One that was expected stays one until it is removed.
    pub(super) fn set_members(
        &self,
        members: &[Member],
        voters: &BTreeSet<NodeId>,
        removed: impl Fn(NodeId) -> bool,
    ) {
        let mut entries = self.lock();
        for (id, entry) in entries.iter_mut() {
            entry.removed = entry.removed || removed(*id);
            entry.member = entry.member && !entry.removed;
        }
        for member in members.iter().filter(|member| member.id != self.me) {
            let entry = entries.entry(member.id).or_default();
            (entry.member, entry.removed) = (true, false);
            entry.name.clone_from(&member.name);
            entry.recorded.clone_from(&member.peer);
        }
        for id in voters.iter().filter(|id| **id != self.me) {
            let entry = entries.entry(*id).or_default();
            entry.member = !entry.removed;
        }
    }

    /// These are to become or became members, as others say; the state will tell.
    pub(super) fn expect_members(&self, members: &[Member]) {
        let mut entries = self.lock();
        for member in members.iter().filter(|member| member.id != self.me) {
            let entry = entries.entry(member.id).or_default();
            if entry.recorded.is_empty() {
                entry.member = true;
                entry.name.clone_from(&member.name);
                entry.recorded.clone_from(&member.peer);
            }
        }
    }

    /// A proven node presented itself, or was found, at `peer`.
    pub(super) fn heard_at(&self, node: &Member, peer: &str) {
        let mut entries = self.lock();
        if node.id == self.me || (!entries.contains_key(&node.id) && entries.len() >= STRANGERS_MAX) {
            return;
        }
        let entry = entries.entry(node.id).or_default();
        entry.name.clone_from(&node.name);
        if !peer.is_empty() {
            entry.heard = Some(peer.to_owned());
        }
    }

    /// A proven node said something just now.
    pub(super) fn touch(&self, id: NodeId) {
        if let Some(entry) = self.lock().get_mut(&id) {
            entry.last_seen = Some(Instant::now());
        }
    }

    pub(super) fn is_removed(&self, id: NodeId) -> bool {
        self.lock().get(&id).is_some_and(|entry| entry.removed)
    }

    pub(super) fn is_member(&self, id: NodeId) -> bool {
        self.lock().get(&id).is_some_and(|entry| entry.member)
    }

    /// Whether `id` is dialled where the configuration says and nowhere else.
    pub(super) fn is_overridden(&self, id: NodeId) -> bool {
        self.lock().get(&id).is_some_and(|entry| self.dial.contains_key(&entry.name))
    }

    /// Where to try to reach `id`, the likeliest first.
    pub(super) fn addresses(&self, id: NodeId) -> Vec<String> {
        let entries = self.lock();
        let Some(entry) = entries.get(&id) else { return Vec::new() };
        if let Some(only) = self.dial.get(&entry.name) {
            return vec![only.clone()];
        }
        let mut found: Vec<String> = entry.heard.iter().cloned().collect();
        if !entry.recorded.is_empty() && !found.contains(&entry.recorded) {
            found.push(entry.recorded.clone());
        }
        found
    }

    pub(super) fn silence(&self, id: NodeId) -> Option<Duration> {
        self.lock().get(&id)?.last_seen.map(|at| at.elapsed())
    }

    pub(super) fn members(&self) -> Vec<Seen> {
        let entries = self.lock();
        let members = entries.iter().filter(|(_, entry)| entry.member);
        let seen = |entry: &Entry| entry.last_seen.map(|at| at.elapsed());
        members.map(|(id, entry)| Seen { id: *id, name: entry.name.clone(), silence: seen(entry) }).collect()
    }
}
