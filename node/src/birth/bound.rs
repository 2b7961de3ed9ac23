//! The answer that binds this node, on its disk.
//!
//! Always holds: it is durable before anyone is told; a set once written is never changed. Never
//! does: decide.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trow_raft::{ClusterId, Member, NodeId, durable};

use super::decide::Set;

const FILE: &str = "bound.json";

/// What this node committed itself to before its state could say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Whose answer it is: one that was given under another key binds nobody.
    pub node: NodeId,
    /// The first set that it is bound to, as its nodes presented themselves; empty when it is
    /// bound to none.
    #[serde(default)]
    pub set: Vec<Member>,
    /// The cluster that took it in.
    #[serde(default)]
    pub joined: Option<Joined>,
}

/// A cluster that took this node in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Which.
    pub cluster: ClusterId,
    /// Its members then.
    pub members: Vec<Member>,
}

/// The bound answer cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum BoundError {
    /// The file system said no.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is damaged. It is not ignored: what it said still binds.
    #[error("{} is damaged ({why}); restore it, or empty the data directory so that this node joins as a new one", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Bound {
    /// What `node` is bound to, as `data_dir` has it.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn load(data_dir: &Path, node: NodeId) -> Result<Bound, BoundError> {
        let path = data_dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Bound { node, ..Bound::default() });
            }
            Err(source) => return Err(BoundError::Io { doing: "read", path, source }),
        };
        let bound: Bound = serde_json::from_slice(&text)
            .map_err(|error| BoundError::Damaged { path, why: error.to_string() })?;
        Ok(if bound.node == node { bound } else { Bound { node, ..Bound::default() } })
    }

    /// Writes it to `data_dir`, durably.
    ///
    /// # Errors
    /// It may or may not be on disk: nobody may be told.
    pub fn save(&self, data_dir: &Path) -> Result<(), BoundError> {
        let write = || durable::write(data_dir, FILE, &serde_json::to_vec_pretty(self)?);
        write().map_err(|source| BoundError::Io { doing: "write", path: data_dir.join(FILE), source })
    }

    /// Removes it from `data_dir`, durably.
    ///
    /// # Errors
    /// It may still be there.
    pub fn remove(data_dir: &Path) -> io::Result<()> {
        durable::remove(data_dir, FILE)
    }

    /// The ids of the set that it is bound to.
    pub fn ids(&self) -> Option<Set> {
        (!self.set.is_empty()).then(|| self.set.iter().map(|member| member.id).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_survives_a_restart_and_dies_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let joined = Some(Joined { cluster: ClusterId(3), members: Vec::new() });
        let bound = Bound { node: NodeId(1), set: Vec::new(), joined };
        bound.save(dir.path()).unwrap();
        assert_eq!(Bound::load(dir.path(), NodeId(1)).unwrap(), bound);
        assert_eq!(Bound::load(dir.path(), NodeId(2)).unwrap().joined, None);
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(matches!(Bound::load(dir.path(), NodeId(1)), Err(BoundError::Damaged { .. })));
        Bound::remove(dir.path()).unwrap();
        assert_eq!(Bound::load(dir.path(), NodeId(1)).unwrap().ids(), None);
    }
}
