//! The end of a process whose cluster has moved on to what it does not know.
//!
//! Always holds: nothing of what was not understood is applied or skipped, and log and state stay as
//! a newer version expects them.

use std::error::Error;

use crate::id::NodeId;

/// What whoever reads the log is to do.
const REMEDY: &str = "this version of Trow is too old for its cluster and ends; nothing is lost: start the version \
                      that the other members run on the same data directory";

/// Ends the process because of what was found in its own log or state.
pub(crate) fn too_old(error: &dyn Error) -> ! {
    tracing::error!(cause = error.to_string(), "{REMEDY}");
    std::process::exit(1)
}

/// Ends the process because `leader`, which it follows, sends it such an entry, or the state after it.
pub(crate) fn too_old_for(leader: NodeId, entry: u64, error: &dyn Error) -> ! {
    tracing::error!(%leader, entry, cause = error.to_string(), "{REMEDY}");
    std::process::exit(1)
}
