//! What can go wrong with the agreed metadata, named for what the caller can do about it.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::command::Refusal;

/// The metadata cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or directory is not usable.
    #[error("open {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The log is not readable.
    #[error("open the log {}: {why}", path.display())]
    Log {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// There is a state and no log: this node would vote a second time where it voted before, and
    /// no longer have what it acknowledged.
    #[error(
        "the log {} is missing or empty, but the node was a member; put no older copy of it in its place; empty the data directory, so that the node joins again under a new id", path.display()
    )]
    LogLost {
        /// Where it should be.
        path: PathBuf,
    },
    /// The state is not readable, or needs a newer program.
    #[error("open the state {}: {why}", path.display())]
    State {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The timers contradict each other.
    #[error("timers: {0}")]
    Timers(String),
    /// Log and state do not fit each other.
    #[error("start consensus: {0}")]
    Consensus(String),
}

/// The first voter set was not recorded.
#[derive(Debug, thiserror::Error)]
#[error("initialise: {0}")]
pub struct InitializeError(pub String);

/// A command did not come through.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProposeError {
    /// Nobody leads and nothing was done: 503, try again.
    #[error("no leader")]
    NoLeader,
    /// It may take effect or not: 503, and only a retry through the same node is applied once.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// The encoded command has this many bytes, more than [`ENTRY_MAX`](crate::limits::ENTRY_MAX).
    #[error("the entry would have {0} bytes")]
    TooLarge(usize),
    /// Too much is in flight and nothing was done: 503, try again.
    #[error("too many proposals in flight")]
    Busy,
    /// Not every member supports the command yet: nothing was done, and nothing will be before the
    /// cluster's level rises.
    #[error("the command is of feature level {needs}, and the cluster is at {agreed}")]
    Level {
        /// The command's level.
        needs: u32,
        /// The cluster's.
        agreed: u32,
    },
    /// The leader does not take the command, or this node is no member: nothing was done.
    #[error("refused: {0}")]
    Refused(String),
}

impl ProposeError {
    /// Whether the command certainly had no effect.
    pub fn had_no_effect(&self) -> bool {
        !matches!(self, ProposeError::Unknown(_))
    }
}

/// A node was not added.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum JoinError {
    /// Try again: there is no quorum, or another bearer of its name is not known to be gone.
    #[error("the cluster does not admit the node now: {0}")]
    NotNow(#[from] ProposeError),
    /// It will not be admitted as it is: its id was removed, or a live member has its name.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The cluster was not born yet.
    #[error("the cluster is not born yet")]
    Unborn,
}

/// A read could not be confirmed by a quorum in the time given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no quorum")]
pub struct NoQuorum {
    /// Since when this node knows of none.
    pub since: SystemTime,
}
