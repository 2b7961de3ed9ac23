//! What this process acknowledged, and in which generation of the store.
//!
//! A generation begins with a fence that the cluster agreed on; evidence given in an earlier one
//! is void from then on. The ledger's promise to the sweeper: whoever was told that a blob is
//! held in the current generation finds its digest here. It holds because acknowledging and
//! looking both happen under the digest's lock.
//!
//! `store.gen` holds the highest generation that this store may ever have proposed, written
//! before it is proposed. Otherwise a process that starts on an older state could propose a number
//! that its predecessor already acknowledged blobs in, and unlink them under that evidence.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use trow_raft::{Digest, Generation};

use super::error::StoreError;
use super::sync;

/// When the sweeper looks at a digest: was it acknowledged lately?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// In the current generation: somebody may hold valid evidence.
    pub now: bool,
    /// In the generation before: somebody may still be about to gather evidence again.
    pub before: bool,
}

pub(super) struct Ledger {
    /// The highest in which an earlier process can have acknowledged anything.
    opened: Generation,
    current: Generation,
    reserved: Generation,
    now: HashSet<Digest>,
    before: HashSet<Digest>,
}

impl Ledger {
    /// Reads `store.gen`, or begins at generation 1.
    pub(super) fn open(root: &Path, file: &Path) -> Result<Ledger, StoreError> {
        let damaged = |why| StoreError::Damaged { path: file.to_owned(), why };
        let generation = match fs::read_to_string(file) {
            Ok(text) => {
                let number = text.trim_end().parse().map(Generation);
                number.map_err(|_| damaged("it does not hold a number"))?
            }
            Err(err) if err.kind() == io::ErrorKind::InvalidData => return Err(damaged("it is not text")),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                write(root, file, Generation(1))?;
                Generation(1)
            }
            Err(err) => return Err(StoreError::io("read", file, err)),
        };
        Ok(Ledger {
            opened: generation,
            current: generation,
            reserved: generation,
            now: HashSet::new(),
            before: HashSet::new(),
        })
    }

    pub(super) fn current(&self) -> Generation {
        self.current
    }

    /// Whether what earlier processes acknowledged is void: a fence that came after them is agreed on.
    pub(super) fn is_fenced(&self) -> bool {
        self.current > self.opened
    }

    /// Acknowledges a digest; the caller holds its lock.
    pub(super) fn acknowledge(&mut self, digest: &Digest) -> Generation {
        self.now.insert(*digest);
        self.current
    }

    /// How many digests the current generation protects.
    pub(super) fn len(&self) -> usize {
        self.now.len()
    }

    pub(super) fn look(&self, digest: &Digest) -> Acknowledged {
        Acknowledged { now: self.now.contains(digest), before: self.before.contains(digest) }
    }

    /// A generation that no process of this store ever used, durably reserved for one fence.
    pub(super) fn reserve(
        &mut self,
        root: &Path,
        file: &Path,
        agreed: Generation,
    ) -> Result<Generation, StoreError> {
        let next = Generation(self.reserved.max(self.current).max(agreed).0 + 1);
        write(root, file, next)?;
        self.reserved = next;
        Ok(next)
    }

    /// Follows what the cluster agreed on; never goes back.
    pub(super) fn adopt(&mut self, agreed: Generation) {
        if agreed > self.current {
            self.current = agreed;
            self.before = std::mem::take(&mut self.now);
        }
    }
}

/// Whole or not at all, and not by `trow_raft::durable`: in the store a failed fsync ends the process.
fn write(root: &Path, file: &Path, generation: Generation) -> Result<(), StoreError> {
    let new = file.with_extension("gen.new");
    let mut out = fs::File::create(&new).map_err(|err| StoreError::io("create", &new, err))?;
    writeln!(out, "{generation}").map_err(|err| StoreError::io("write", &new, err))?;
    sync::file(&out, &new);
    fs::rename(&new, file).map_err(|err| StoreError::io("rename", &new, err))?;
    sync::directory(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_generation_is_ever_reserved_twice() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store.gen");
        let mut first = Ledger::open(dir.path(), &file).unwrap();
        assert_eq!(first.current(), Generation(1));
        let fence = first.reserve(dir.path(), &file, Generation(1)).unwrap();
        assert_eq!(fence, Generation(2));
        // It died before it heard what became of the fence; the state still says 1.
        let mut second = Ledger::open(dir.path(), &file).unwrap();
        assert_eq!(second.reserve(dir.path(), &file, Generation(1)).unwrap(), Generation(3));
        assert_eq!(second.reserve(dir.path(), &file, Generation(9)).unwrap(), Generation(10));
    }

    #[test]
    fn a_damaged_generation_is_named_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store.gen");
        for damage in [b"\xff\xfe".as_slice(), b"many"] {
            fs::write(&file, damage).unwrap();
            let refused = Ledger::open(dir.path(), &file).err().unwrap().to_string();
            assert!(refused.contains("store.gen is damaged") && refused.contains("restore it"), "{refused}");
            assert_eq!(fs::read(&file).unwrap(), damage);
        }
    }

    #[test]
    fn a_fence_moves_what_was_acknowledged_one_generation_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store.gen");
        let mut ledger = Ledger::open(dir.path(), &file).unwrap();
        let digest = Digest::sha256(b"x");
        assert_eq!(ledger.acknowledge(&digest), Generation(1));
        assert_eq!(ledger.look(&digest), Acknowledged { now: true, before: false });
        ledger.adopt(Generation(1));
        assert!(!ledger.is_fenced(), "an earlier process acknowledged in it");
        ledger.adopt(Generation(2));
        assert!(ledger.is_fenced());
        ledger.adopt(Generation(2));
        assert_eq!(ledger.look(&digest), Acknowledged { now: false, before: true });
        ledger.adopt(Generation(3));
        assert_eq!(ledger.look(&digest), Acknowledged::default());
    }
}
