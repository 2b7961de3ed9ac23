//! Consensus: openraft, hidden completely.
//!
//! Owns the log and vote on disk, the state machine over [`State`](crate::state::State), snapshots
//! and the Raft network. Always holds: what was acknowledged is durable in the log; the state on
//! disk never runs ahead of it. Nothing outside this module and `metadata` names an openraft type.

pub(crate) mod ahead;
pub(crate) mod align;
pub(crate) mod apply_cost;
mod background;
pub(crate) mod disk;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(crate) mod incoming;
pub(crate) mod log_store;
pub(crate) mod machine;
pub(crate) mod meter;
pub(crate) mod network;
pub(crate) mod reserve;
pub(crate) mod snapshot;
pub(crate) mod too_old;
pub(crate) mod types;
pub(crate) mod wire;

#[cfg(test)]
mod tests;
