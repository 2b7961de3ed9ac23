//! What a Trow cluster agrees on.
//!
//! Owns the value types every other crate speaks in, the complete list of ways metadata can
//! change ([`Command`]), the deterministic `apply`, the placement planner, the Raft log and
//! state on disk, the Raft network, and [`Metadata`], the one handle others use.
//!
//! Always holds: state changes only by applying a committed command; apply reads no clock, no
//! randomness and no client bytes. Never does: HTTP, blob bytes, TLS.

pub mod changes;
pub mod codec;
pub mod command;
mod consensus;
pub(crate) mod controller;
pub mod digest;
pub mod durable;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod id;
pub mod limits;
pub mod member;
pub mod metadata;
pub mod name;
pub mod placement;
pub mod planted;
#[cfg(feature = "planted")]
pub mod probe;
pub mod proto;
pub mod state;

pub use changes::{Changes, Touched};
pub use command::{Applied, Command, Envelope, Outcome, Refusal};
pub use digest::{Algorithm, Digest, PartitionId};
pub use id::{ClusterId, Generation, NodeId};
pub use member::{Evidence, Member, MemberState, Owner, Partition};
pub use metadata::{
    Connect, ConnectError, InitializeError, JoinError, Leadership, Metadata, Metrics, NoQuorum, OpenError,
    PeerId, ProposeError, Settings, Silence,
};
pub use name::{Reference, RepoName, Tag};
pub use planted::{Planted, Variant};
pub use state::{
    ApplyEntry, BlobRow, Cached, Exported, LinkRow, ManifestRow, PolicyRow, SealedRow, Stamp, State,
    StateError, TagMove, TagRow, View,
};
