//! The port through which the API reads and writes blob bytes.
//!
//! A node implements it over its store and its peers; [`memory`] implements it for tests. What a
//! repository may see is not decided here: the caller has found the link before it opens a blob.
//! Implementations never buffer a whole blob.

pub mod memory;

use std::io;
use std::ops::Range;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use trow_raft::{Algorithm, Applied, Digest, NodeId, RepoName, StateError};

/// Bytes on their way. An error ends it: the rest will not come, and what came is not the whole.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// What members say of a blob; who is in neither list says that it does not hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Who holds it.
    pub by: Vec<NodeId>,
    /// Who does not answer.
    pub silent: Vec<NodeId>,
}

/// Where blob bytes come from and go to, wherever in the cluster that is.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// The bytes `range` of the blob, which is `size` bytes long; never empty unless `size` is 0.
    ///
    /// The stream survives the loss of the node it reads from, and ends in an error rather than
    /// with a wrong byte.
    async fn open(&self, digest: &Digest, size: u64, range: Range<u64>) -> Result<ByteStream, ReadBlobError>;

    /// The members that say now that they hold the blob, and those that do not answer in time.
    async fn holders(&self, digest: &Digest) -> Result<Held, StateError>;

    /// Opens an upload session. `hint` is the algorithm of the digest that will close it, when
    /// the client said so; without it any supported one may come.
    async fn start(&self, repo: &RepoName, hint: Option<Algorithm>) -> Result<UploadToken, UploadError>;

    /// Appends `body`, which begins at byte `at` when the client said so. Gives the token to use
    /// from now on and the length reached, in bytes.
    ///
    /// When `body` breaks off, what arrived before is kept and [`UploadError::ClientGone`] is
    /// returned; the client may ask for the progress and go on from there.
    async fn append(
        &self,
        repo: &RepoName,
        token: &UploadToken,
        at: Option<u64>,
        body: ByteStream,
    ) -> Result<(UploadToken, u64), UploadError>;

    /// The token to use from now on and the length reached, in bytes.
    async fn progress(&self, repo: &RepoName, token: &UploadToken)
    -> Result<(UploadToken, u64), UploadError>;

    /// Appends `body` as [`Self::append`] does, verifies the whole against `digest`, has it held
    /// durably by a quorum, and commits it into `repo`. The outcome is `Done`, at the index of
    /// the entry that committed it. May be repeated after success, with or without the body.
    async fn finish(
        &self,
        repo: &RepoName,
        token: &UploadToken,
        digest: &Digest,
        at: Option<u64>,
        body: ByteStream,
        actor: &str,
    ) -> Result<Applied, UploadError>;

    /// Ends a session and frees what it staged.
    async fn cancel(&self, repo: &RepoName, token: &UploadToken) -> Result<(), UploadError>;
}

/// Names an upload session; travels in the `Location` and comes back from the client.
///
/// Both parts are plain text here: an implementation authenticates what it gave out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadToken {
    id: String,
    state: String,
}

impl UploadToken {
    /// Longest id, in bytes.
    pub const ID_MAX: usize = 64;
    /// Longest state, in bytes.
    pub const STATE_MAX: usize = 2048;

    /// A token of an id and a state, if both are short and of letters, digits, `-` and `_` only
    /// (an empty state is a state). They need no escaping in a URL then.
    pub fn new(id: impl Into<String>, state: impl Into<String>) -> Option<Self> {
        let (id, state) = (id.into(), state.into());
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        let valid = !id.is_empty()
            && id.len() <= Self::ID_MAX
            && state.len() <= Self::STATE_MAX
            && plain(&id)
            && plain(&state);
        valid.then_some(UploadToken { id, state })
    }

    /// The session's id: one path segment.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The rest of the session's state: one query value.
    pub fn state(&self) -> &str {
        &self.state
    }
}

/// Why a blob that the state knows could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ReadBlobError {
    /// No reachable node has it now.
    #[error("no node that holds the blob can be reached")]
    NotHere,
    /// This node's disk or memory failed it; the message is for the log.
    #[error("read blob")]
    Failed(#[source] io::Error),
}

/// Why an upload did not go on.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// No such session: never there, of another repository, expired, cancelled, closed, or the
    /// token was tampered with.
    #[error("there is no such upload")]
    Unknown,
    /// The chunk does not begin where the session ends.
    #[error("the upload has {have} bytes, the chunk begins elsewhere")]
    OutOfOrder {
        /// Bytes the session has.
        have: u64,
        /// The token to go on with, if it is not the one of the request.
        token: Option<UploadToken>,
    },
    /// What was uploaded has another digest.
    #[error("the uploaded bytes do not have the digest")]
    DigestMismatch,
    /// The disk is full; headroom for the metadata is kept.
    #[error("no space left for uploads")]
    NoSpace,
    /// Too many sessions or too many staged bytes on the node.
    #[error("too many uploads at once")]
    TooMany,
    /// Not enough nodes can be reached. Nothing happened.
    #[error("not enough nodes can be reached to make the upload durable: {0}")]
    Unavailable(String),
    /// It may or may not have taken effect.
    #[error("the outcome is unknown: {0}")]
    OutcomeUnknown(String),
    /// The client's body broke off.
    #[error("the request's body broke off")]
    ClientGone(#[source] io::Error),
    /// This node failed; the message is for the log.
    #[error("stage upload")]
    Failed(#[source] io::Error),
}
