//! Wrong rules, kept so that the tests of the right ones can be shown to fail.
//!
//! Each [`Variant`] is a naive rule that loses data under a schedule of the protocol. The code
//! that would follow it asks [`Planted::is`], which is the constant `false` unless the crate is
//! built with the feature `planted`; such a build is never released. The choice is a value that
//! travels in configuration, so that parallel tests do not disturb each other.

use std::fmt;
use std::str::FromStr;

macro_rules! variants {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// One wrong rule; the doc says which rule it breaks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Variant { $($(#[$doc])* $name,)* }
        impl Variant {
            /// All of them, in the order of the protocol.
            pub const ALL: &'static [Variant] = &[$(Variant::$name,)*];
            /// The name used in `TROW_PLANTED`.
            pub fn as_str(self) -> &'static str { match self { $(Variant::$name => $text,)* } }
        }
    };
}

variants! {
    /// Log appends are acknowledged without fsync.
    SkipFsyncLogAppend = "skip-fsync-log-append",
    /// Votes are acknowledged without fsync.
    SkipFsyncVote = "skip-fsync-vote",
    /// Log truncation is acknowledged without fsync.
    SkipFsyncTruncate = "skip-fsync-truncate",
    /// State checkpoints are reported durable without fsync.
    SkipFsyncCheckpoint = "skip-fsync-checkpoint",
    /// Checksum sidecars are not fsynced.
    SkipFsyncSidecar = "skip-fsync-sidecar",
    /// Blob files are not fsynced before the rename.
    SkipFsyncBlobFile = "skip-fsync-blob-file",
    /// Blob directories are not fsynced after the rename.
    SkipFsyncBlobDirectory = "skip-fsync-blob-directory",
    /// C1: CommitBlob is accepted with fewer than W holders.
    C1ThinEvidence = "c1-thin-evidence",
    /// C2: the sweeper unlinks without a fence and without regard to what it acknowledged.
    C2NoFence = "c2-no-fence",
    /// C2: evidence of an older generation is accepted.
    C2OldEvidence = "c2-old-evidence",
    /// C3: sources are dropped when the first new owner is ready.
    C3DropSourcesEarly = "c3-drop-sources-early",
    /// C3: a table change keeps `ready` of kept owners.
    C3KeepReady = "c3-keep-ready",
    /// C4: a node initialises with the peers that happened to answer.
    C4BirthWithoutAll = "c4-birth-without-all",
    /// C4: an answer binds nobody; a node may answer two sets.
    C4UnboundAnswer = "c4-unbound-answer",
    /// C5: the state is checkpointed beyond the flushed log.
    C5CheckpointAhead = "c5-checkpoint-ahead",
    /// C7: entries are not bounded in bytes.
    C7Unbounded = "c7-unbounded",
    /// H1: only owners may hold a new blob.
    H1OwnersOnly = "h1-owners-only",
    /// H2: the home of an upload acknowledges what it has written, though its mirror has another
    /// home by now.
    H2WakingHome = "h2-waking-home",
    /// H3: a read joins a round that was already sent.
    H3JoinSentRound = "h3-join-sent-round",
    /// H9: commands above the level of the cluster are proposed.
    H9AboveLevel = "h9-above-level",
    /// H10: a retry is applied again.
    H10NoOutcomeTable = "h10-no-outcome-table",
}

/// At most one wrong rule in force; [`Planted::NONE`] in every released build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted(Option<Variant>);

impl Planted {
    /// Every rule as the protocol has it.
    pub const NONE: Planted = Planted(None);

    /// Breaks `variant`'s rule, in a build with the feature `planted`.
    pub const fn new(variant: Variant) -> Self {
        Planted(Some(variant))
    }

    /// Whether `variant`'s wrong rule is in force.
    #[inline]
    pub fn is(self, variant: Variant) -> bool {
        cfg!(feature = "planted") && self.0 == Some(variant)
    }

    /// The variant named in `TROW_PLANTED`; always [`Planted::NONE`] without the feature.
    ///
    /// # Errors
    /// The variable names no variant.
    pub fn from_env() -> Result<Self, UnknownVariant> {
        match std::env::var("TROW_PLANTED") {
            Ok(name) if cfg!(feature = "planted") && !name.is_empty() => name.parse().map(Planted::new),
            _ => Ok(Planted::NONE),
        }
    }
}

/// `TROW_PLANTED` names no variant.
#[derive(Debug, thiserror::Error)]
#[error("TROW_PLANTED names no known variant: {0:?}")]
pub struct UnknownVariant(String);

impl FromStr for Variant {
    type Err = UnknownVariant;

    fn from_str(text: &str) -> Result<Self, UnknownVariant> {
        let found = Variant::ALL.iter().copied().find(|v| v.as_str() == text);
        found.ok_or_else(|| UnknownVariant(text.to_owned()))
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
