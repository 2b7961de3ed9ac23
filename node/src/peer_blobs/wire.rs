//! What peers say to each other about blobs and uploads, over HTTP/1.1.
//!
//! Owns paths, header names, query and JSON forms, and the one error that travels. Bytes are
//! bodies, everything else is small JSON. Always holds: what is read from a peer is parsed into
//! value types at once. Never does: I/O.
//!
//! ```text
//! GET  /blob/<digest>            Range: bytes=a-b   the bytes, each chunk checked as it is read
//! HEAD /blob/<digest>                               size and when it was last verified
//! POST /blob/<digest>/hold       {sources}          fetch it if need be, hold it, give evidence
//! POST /confirm                  {digests}          evidence for each that is held
//! GET  /cache/blob/<digest>      Range: bytes=a-b   of an upstream: the bytes as they arrive there
//! HEAD /cache/blob/<digest>                         size of what is for that name, and whether it still arrives
//! POST /cache/blob/<digest>/keep {sources,origin}   fetch it if need be, keep it as cached
//! POST /cache/manifest           {repo,reference}   ask the upstream for all           → Told, bytes
//! POST /cache/list               {repo,list}        list it for all                    → ToldList, bytes
//! POST /cache/lists              {repo,blob}        does a manifest served lately list it?
//! POST /cache/has                {digests,repo}     which are on its disk, cached or durable
//! GET  /cache/logins                                for what upstreams there ever were credentials
//! POST /upload                   ?hint              begin a session here            → Claimed
//! POST /upload/claim             ?takeover,closing  is it here? become its home     → Claimed
//! GET  /upload                                      bring its mirrors level          → Claimed
//! PATCH /upload                  ?at                append at the home              → Claimed
//! POST /upload/hold              ?digest,at         the rest of it; hold it         → Finished
//! DELETE /upload                                    forget it, here and on mirrors
//! POST|PATCH|DELETE /mirror      ?at,reset          the same as its mirror          → Length
//! POST /mirror/hold              ?digest,length                                     → Finished
//! ```

mod fault;
mod pulled;

use serde::{Deserialize, Serialize};
use trow_raft::{Algorithm, Digest, Evidence, Generation, NodeId, RepoName};

pub use fault::{Fault, UpstreamSaid};
pub use pulled::{AskHas, AskList, AskLists, AskManifest, Has, List, Lists, PULLED_MAX, Told, ToldList};

/// The sealed ticket of the upload that a request is about.
pub const TICKET: &str = "trow-upload";
/// The repository that the ticket was sealed for.
pub const REPO: &str = "trow-repo";
/// The size of the whole blob in bytes, on every reply that is about one.
pub const SIZE: &str = "trow-size";
/// On a request for a blob of an upstream: what is not there is not fetched.
pub const ONLY_THERE: &str = "trow-only-there";
/// On a request about such a blob: who asks holds the name for one that needs a user, and so knows its caller.
pub const FOR_USER: &str = "trow-for-user";
/// On a reply to `HEAD` about such a blob: it is still on its way there.
pub const ARRIVING: &str = "trow-arriving";
/// On a reply with bytes of such a blob: the name by which its upstream gave them, if that is known.
pub const ORIGIN: &str = "trow-origin";
/// When a blob was last verified, in ms since 1970, on a reply to `HEAD`.
pub const VERIFIED_AT: &str = "trow-verified-at";
/// Most digests in one `POST /confirm`.
pub const CONFIRM_MAX: usize = 1000;
/// Largest JSON body of a request, in bytes: [`CONFIRM_MAX`] long digests fit.
pub const REQUEST_MAX: usize = 256 << 10;
/// Largest JSON body of a reply, in bytes.
pub const REPLY_MAX: usize = 1 << 20;

/// `POST /confirm`: which of these are held?
#[derive(Debug, Serialize, Deserialize)]
pub struct Confirm {
    /// At most [`CONFIRM_MAX`].
    pub digests: Vec<Digest>,
}

/// The answer, in the same order.
#[derive(Debug, Serialize, Deserialize)]
pub struct Confirmed {
    /// The store generation in which each was acknowledged; `None` when it is not held.
    pub held: Vec<Option<Generation>>,
}

/// `POST /blob/<digest>/hold`: make it yours.
#[derive(Debug, Serialize, Deserialize)]
pub struct HoldFrom {
    /// Nodes that hold it, best first.
    pub sources: Vec<NodeId>,
}

/// `POST /cache/blob/<digest>/keep`: have a copy.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeepFrom {
    /// Nodes that have it.
    pub sources: Vec<NodeId>,
    /// The name by which its upstream gave it, if that is known.
    #[serde(default)]
    pub origin: Option<RepoName>,
    /// That name needs a user: a node that holds it for everybody's keeps no copy.
    #[serde(default)]
    pub for_user: bool,
}

/// Where a session is and how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// The sealed ticket as it is now.
    pub ticket: String,
    /// Bytes that the home has.
    pub length: u64,
    /// The bytes are held already; nothing can be appended.
    pub closed: bool,
}

/// How much a mirror has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Length {
    /// In bytes.
    pub length: u64,
}

/// The bytes are held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// In bytes.
    pub size: u64,
    /// Who vouches for it.
    pub evidence: Vec<Evidence>,
}

/// The query of all upload requests; each uses what it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct UploadQuery {
    /// The offset that the body begins at.
    pub at: Option<u64>,
    /// How many bytes there must be.
    pub length: Option<u64>,
    /// What the content must be.
    pub digest: Option<Digest>,
    /// What the digest will be computed with.
    pub hint: Option<Hint>,
    /// Become the home, since the one of the ticket does not answer.
    #[serde(default)]
    pub takeover: bool,
    /// A final request, which a ticket from before the last takeover may make too.
    #[serde(default)]
    pub closing: bool,
    /// Start from nothing, whatever is there.
    #[serde(default)]
    pub reset: bool,
}

impl UploadQuery {
    /// The query string; every value is plain text.
    pub fn encode(&self) -> String {
        let mut parts = Vec::new();
        let mut number = |name: &str, value: Option<u64>| {
            parts.extend(value.map(|value| format!("{name}={value}")));
        };
        number("at", self.at);
        number("length", self.length);
        parts.extend(self.digest.map(|digest| format!("digest={digest}")));
        parts.extend(self.hint.map(|hint| format!("hint={}", Algorithm::from(hint).as_str())));
        for (name, flag) in [("takeover", self.takeover), ("closing", self.closing), ("reset", self.reset)] {
            parts.extend(flag.then(|| format!("{name}=true")));
        }
        parts.join("&")
    }
}

/// An [`Algorithm`] on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hint {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl From<Algorithm> for Hint {
    fn from(algorithm: Algorithm) -> Hint {
        match algorithm {
            Algorithm::Sha256 => Hint::Sha256,
            Algorithm::Sha512 => Hint::Sha512,
        }
    }
}

impl From<Hint> for Algorithm {
    fn from(hint: Hint) -> Algorithm {
        match hint {
            Hint::Sha256 => Algorithm::Sha256,
            Hint::Sha512 => Algorithm::Sha512,
        }
    }
}
