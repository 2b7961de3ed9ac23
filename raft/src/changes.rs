//! Which blobs and partitions applied entries touched lately, so that comparing the state with
//! files costs what changed and not what there is.
//!
//! Kept in memory by whoever applies. Always holds: whoever takes a position, then looks at the
//! state, and later asks for what was touched since the position, hears of every change that it
//! did not see. May name things that did not change after all. A start forgets everything; the
//! reader begins with a full comparison. What is found while a change is under way may be of before
//! it or of after it, and must not be remembered under the positions of that moment.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::command::Command;
use crate::digest::{Digest, PartitionId};

/// Touched blobs that are remembered one by one; older ones only by their partition.
const REMEMBERED: usize = 8192;

/// Something that an applied entry may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touched {
    /// The blob's row.
    Blob(Digest),
    /// The partition's owners or sources, or any of its blobs.
    Partition(PartitionId),
}

/// The changes; see the module.
#[derive(Debug)]
pub struct Changes {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Changes whose effect may or may not be seen already.
    under_way: u64,
    /// Position after the last change.
    position: u64,
    /// The last changes, the newest at `position - 1`.
    recent: VecDeque<Touched>,
    /// Position after the last change of each partition or a blob of it.
    partitions: Vec<u64>,
}

impl Default for Changes {
    fn default() -> Self {
        let partitions = vec![0; usize::from(PartitionId::COUNT)];
        Changes {
            inner: Mutex::new(Inner { under_way: 0, position: 0, recent: VecDeque::new(), partitions }),
        }
    }
}

impl Changes {
    /// Runs what makes the effect of `commands` visible, and notes what they may touch before and
    /// after: a reader in between looks again.
    pub fn during<'a, T>(
        &self,
        commands: impl Iterator<Item = &'a Command> + Clone,
        change: impl FnOnce() -> T,
    ) -> T {
        self.around(|inner| commands.clone().for_each(|command| inner.note(command)), change)
    }

    /// Runs what may change anything: the installation of a snapshot.
    pub fn during_everything<T>(&self, change: impl FnOnce() -> T) -> T {
        self.around(Inner::everything, change)
    }

    /// What fails in a panic stays under way: whoever applies does not go on after one.
    fn around<T>(&self, note: impl Fn(&mut Inner), change: impl FnOnce() -> T) -> T {
        let mut inner = self.lock();
        inner.under_way += 1;
        note(&mut inner);
        drop(inner);
        let changed = change();
        let mut inner = self.lock();
        note(&mut inner);
        inner.under_way -= 1;
        changed
    }

    /// Whether a change is under way: of a position read before this was `false`, everything seen
    /// from now on may be remembered.
    pub fn under_way(&self) -> bool {
        self.lock().under_way > 0
    }

    /// Notes that a file of the blob came late: after an entry by which this node need not have it.
    pub fn note_blob(&self, digest: &Digest) {
        self.lock().touch(Touched::Blob(*digest));
    }

    /// The position after the last change.
    pub fn position(&self) -> u64 {
        self.lock().position
    }

    /// Position after the last change of the partition or one of its blobs.
    pub fn partition(&self, id: PartitionId) -> u64 {
        self.lock().partitions[usize::from(id.index())]
    }

    /// What was touched since `position`, oldest first, and the position to ask from next. When
    /// there was more than is remembered, partitions stand for their blobs.
    pub fn since(&self, position: u64) -> (Vec<Touched>, u64) {
        let inner = self.lock();
        let new = inner.position.saturating_sub(position);
        let touched = if new <= inner.recent.len() as u64 {
            inner.recent.iter().skip(inner.recent.len() - new as usize).copied().collect()
        } else {
            let changed = |id: &PartitionId| inner.partitions[usize::from(id.index())] > position;
            PartitionId::all().filter(changed).map(Touched::Partition).collect()
        };
        (touched, inner.position)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn note(&mut self, command: &Command) {
        match command {
            Command::CommitBlob { digest, .. } => self.touch(Touched::Blob(*digest)),
            Command::Reclaim { blobs, .. } => self.blobs(blobs.iter()),
            Command::SettleBlobs { blobs } => self.blobs(blobs.iter().map(|(digest, _)| digest)),
            Command::SetLost { digests, .. } => self.blobs(digests.iter()),
            Command::SetPartitions { owners, .. } => {
                owners.iter().for_each(|(id, _)| self.touch(Touched::Partition(*id)));
            }
            Command::PartitionReady { partitions, .. } => {
                partitions.iter().for_each(|(id, _)| self.touch(Touched::Partition(*id)));
            }
            // They decide who counts.
            Command::Birth { .. }
            | Command::ChangeMember { .. }
            | Command::SetMemberState { .. }
            | Command::RemoveMember { .. }
            | Command::SetRf { .. } => self.everything(),
            Command::MountBlob { .. }
            | Command::WantLinks { .. }
            | Command::DeleteLink { .. }
            | Command::PutManifest { .. }
            | Command::DeleteManifest { .. }
            | Command::DeleteTag { .. }
            | Command::Tick { .. }
            | Command::FenceStore { .. }
            | Command::SetLevel { .. }
            | Command::PutCached { .. }
            | Command::TagCached { .. }
            | Command::DropCached { .. }
            | Command::WantCached { .. }
            | Command::ReclaimCached { .. }
            | Command::SetPins { .. }
            | Command::SetPolicy { .. }
            | Command::PutVerdict { .. }
            | Command::PutSealed { .. } => {}
            #[cfg(feature = "next-level")]
            Command::Probe => {}
        }
    }

    fn touch(&mut self, touched: Touched) {
        let partition = match touched {
            Touched::Blob(digest) => digest.partition(),
            Touched::Partition(id) => id,
        };
        self.position += 1;
        self.partitions[usize::from(partition.index())] = self.position;
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(touched);
    }

    fn blobs<'a>(&mut self, digests: impl Iterator<Item = &'a Digest>) {
        digests.for_each(|digest| self.touch(Touched::Blob(*digest)));
    }

    fn everything(&mut self) {
        PartitionId::all().for_each(|id| self.touch(Touched::Partition(id)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(changes: &Changes, command: &Command) {
        changes.during(std::iter::once(command), || ());
    }

    fn lost(text: &str) -> (Command, Digest) {
        let digest = Digest::sha256(text.as_bytes());
        (Command::SetLost { digests: vec![digest], seen: 0 }, digest)
    }

    #[test]
    fn a_reader_hears_of_each_change_after_its_position() {
        let changes = Changes::default();
        let (first, first_digest) = lost("1");
        let (second, second_digest) = lost("2");
        note(&changes, &first);
        let (touched, position) = changes.since(0);
        assert_eq!(touched, [Touched::Blob(first_digest); 2]);
        assert_eq!(changes.since(position), (Vec::new(), position));
        note(&changes, &Command::Tick { elapsed: 1 });
        note(&changes, &second);
        assert_eq!(changes.since(position).0, [Touched::Blob(second_digest); 2]);
        assert!(changes.partition(second_digest.partition()) > position);
    }

    #[test]
    fn a_late_reader_hears_of_partitions_instead() {
        let changes = Changes::default();
        let (first, digest) = lost("1");
        for _ in 0..=REMEMBERED {
            note(&changes, &first);
        }
        let (touched, position) = changes.since(0);
        assert_eq!(touched, [Touched::Partition(digest.partition())]);
        changes.during_everything(|| ());
        assert_eq!(changes.since(position).0.len(), 2 * usize::from(PartitionId::COUNT));
    }

    #[test]
    fn what_is_seen_during_a_change_is_not_of_its_position() {
        let changes = Changes::default();
        let (lost, digest) = lost("1");
        let at = || (changes.partition(digest.partition()), changes.under_way());
        let (before, during) = (at(), changes.during(std::iter::once(&lost), at));
        let after = at();
        assert!(before.0 < during.0 && during.0 < after.0, "{before:?} {during:?} {after:?}");
        assert_eq!((before.1, during.1, after.1), (false, true, false));
        assert!(changes.during_everything(at).1 && !changes.under_way());
    }
}
