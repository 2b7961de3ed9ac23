//! The one error that travels between nodes, and the statuses that it travels under.

use serde::{Deserialize, Serialize};

/// Why a node did not do its part; what travels in the body of every reply that is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// No such session, or no longer; no such blob.
    #[error("not here")]
    Unknown,
    /// The session has another home by now, or the ticket is from before the last takeover.
    #[error("the upload was taken over since (term {term})")]
    Stale {
        /// The session's term.
        term: u64,
    },
    /// The body does not begin where the content ends.
    #[error("the upload has {have} bytes and continues there")]
    OutOfOrder {
        /// Bytes that are there.
        have: u64,
    },
    /// The content is not what the digest names.
    #[error("the content does not have the digest")]
    DigestMismatch,
    /// The disk is full.
    #[error("no space left for blobs")]
    NoSpace,
    /// Too many sessions or staged bytes.
    #[error("too many uploads on this node")]
    TooMany,
    /// The sender of the body broke off; what arrived is kept.
    #[error("the body broke off: {why}")]
    BrokeOff {
        /// For the log.
        why: String,
    },
    /// What the node that asks an upstream on behalf of all heard from it, or decided without asking it.
    #[error("{why}")]
    Upstream {
        /// What that is.
        said: UpstreamSaid,
        /// For the client.
        why: String,
        /// When to ask again, in ms.
        retry: u64,
    },
    /// Nothing came of it now; trying again may help.
    #[error("{why}")]
    Unavailable {
        /// For the log.
        why: String,
    },
}

/// What there is to hear of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamSaid {
    /// It does not have it.
    NotFound,
    /// It is not asked.
    Offline,
    /// It must not be asked.
    Denied,
    /// It does not answer now.
    Unavailable,
    /// Something else than was asked for.
    Bad,
    /// It is fetched with credentials, and the asker did not say that it is for a known user.
    LoginNeeded,
}

impl Fault {
    /// [`Fault::Unavailable`] for this reason.
    pub fn unavailable(why: impl std::fmt::Display) -> Fault {
        Fault::Unavailable { why: why.to_string() }
    }

    /// The status that it travels under.
    pub fn status(&self) -> http::StatusCode {
        use http::StatusCode;
        match self {
            Fault::Unknown => StatusCode::NOT_FOUND,
            Fault::Stale { .. } => StatusCode::CONFLICT,
            Fault::OutOfOrder { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Fault::DigestMismatch | Fault::BrokeOff { .. } => StatusCode::BAD_REQUEST,
            Fault::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            Fault::TooMany => StatusCode::TOO_MANY_REQUESTS,
            // Never 404, which says that a path or what it names is not there.
            Fault::Upstream { .. } => StatusCode::BAD_GATEWAY,
            Fault::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
