//! What can go wrong with the state. Nothing here is an outcome of a command: every error means
//! that the file or the log cannot be trusted, and ends the process.

use crate::codec::CodecError;

/// The state cannot be read, written or trusted. Never retried: the process must end.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The database refused; after an I/O error it refuses everything.
    #[error("the state file failed: {0}; look at the disk, then start the node again")]
    Database(#[from] Box<redb::Error>),
    /// The file system refused.
    #[error("the state file failed: {0}; look at the disk, then start the node again")]
    Io(#[from] std::io::Error),
    /// A row that this build cannot read.
    #[error("the state's table {table} holds a row that cannot be read; restore this node from its peers")]
    Row {
        /// Which table.
        table: &'static str,
    },
    /// An entry that this build cannot read.
    #[error("a log entry cannot be read: {0}")]
    Entry(#[from] CodecError),
    /// An entry at or below what is applied.
    #[error("entry {index} comes after {applied} was applied; the log and the state do not belong together")]
    Order {
        /// The entry's index.
        index: u64,
        /// The last applied index.
        applied: u64,
    },
    /// The cluster's feature level is above this build's.
    #[error("the cluster is at feature level {level}, and this version of Trow supports {supported}; start the version that the other members run on this data directory", supported = crate::command::LEVEL)]
    Level {
        /// The cluster's level.
        level: u32,
    },
}

impl StateError {
    /// Whether this build is too old for what it found.
    pub fn is_too_old(&self) -> bool {
        match self {
            StateError::Level { .. } => true,
            StateError::Entry(error) => error.is_newer(),
            _ => false,
        }
    }
}

macro_rules! from_redb {
    ($($kind:ident),*) => {$(
        impl From<redb::$kind> for StateError {
            fn from(error: redb::$kind) -> Self { StateError::Database(Box::new(error.into())) }
        }
    )*};
}
from_redb!(DatabaseError, TransactionError, TableError, StorageError, CommitError, SetDurabilityError);
