//! Byte limits, each strictly inside the next, so that what was committed can always travel.
//!
//! manifest < entry < batch < RPC. A descriptor may repeat a manifest's annotations, so an entry
//! may be more than twice its manifest.

/// Largest manifest accepted, in bytes; more is 413 at the edge.
pub const MANIFEST_MAX: usize = 4 << 20;
/// Largest encoded log entry, in bytes; more is refused before it is proposed.
pub const ENTRY_MAX: usize = 10 << 20;
/// Longest name of whoever acts, in bytes: a tag remembers some of them.
pub const ACTOR_MAX: usize = 4 << 10;
/// Entries of one AppendEntries are cut off at this many bytes (but never below one entry).
pub const BATCH_MAX: usize = 12 << 20;
/// Largest gRPC message between peers, in bytes.
pub const RPC_MAX: usize = 16 << 20;
/// Bytes of proposals that one node may have in flight.
pub const PROPOSALS_IN_FLIGHT: usize = 64 << 20;
/// Outcomes remembered per proposer, and so the most that may be outstanding.
pub const OUTCOMES: u64 = 1024;
/// Digests moved of a tag that its row remembers.
pub const TAG_HISTORY: usize = 10;
/// Pins that the cluster has at most.
pub const PINS_MAX: u64 = 10_000;
/// What cached manifests and their tags take of the state together, in bytes as
/// [`crate::state::View::cached_weight`] counts them; none is recorded beyond it. Whoever may pull adds to them, and each node has all of it in its file.
/// Images have some KiB of them, so that this is room for more images than a cluster runs.
pub const CACHED_MAX: u64 = if cfg!(test) { 1 << 20 } else { 1 << 30 };
/// Tags that one cached manifest has at most: they go with it, in one step.
pub const CACHED_TAGS_MAX: u64 = if cfg!(test) { 20 } else { 1000 };
/// Tags that one `ReclaimCached` takes away, after which it ends early: what is left goes by the next.
pub const RECLAIMED_TAGS: u64 = 10 * CACHED_TAGS_MAX;
/// Largest policy document, in bytes.
pub const POLICY_MAX: usize = 1 << 20;
/// Verdicts on signatures that the cluster remembers.
pub const VERDICTS_MAX: u64 = 10_000;
/// Keys that one verdict names, and the longest of their names in bytes.
pub const SIGNERS_MAX: usize = 256;
/// See [`SIGNERS_MAX`].
pub const SIGNER_MAX: usize = 256;
/// Sealed secrets that the cluster has, the longest of their names, and the largest of them in bytes.
pub const SEALED_COUNT_MAX: u64 = 16;
/// See [`SEALED_COUNT_MAX`].
pub const SEALED_NAME_MAX: usize = 64;
/// See [`SEALED_COUNT_MAX`].
pub const SEALED_MAX: usize = 64 << 10;
/// Most voters; further members are learners with the full state.
pub const VOTERS_MAX: usize = 5;
