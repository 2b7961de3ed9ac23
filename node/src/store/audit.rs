//! Comparing what is here with what should be here.

/// What an audit found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Durable blobs that this node owns and does not have.
    pub missing: u64,
    /// Durable blobs that this node has and does not own.
    pub strays: u64,
}

/// The last audit, by directory.
#[derive(Default)]
pub(super) struct Audited {}
