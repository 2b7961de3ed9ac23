//! Proposing a change and telling the client what came of it.

use std::time::Duration;

use http::HeaderValue;
use serde_json::json;
use trow_raft::{Command, Metadata, Outcome, ProposeError, Refusal};

use crate::error::{Error, OUTCOME_UNKNOWN, Problem};
use crate::headers::LOG_ID;

/// How long a delete waits for the other nodes to have applied it.
const EVERYWHERE_WAIT: Duration = Duration::from_secs(1);

/// Changes of the agreed metadata on behalf of clients.
#[derive(Clone)]
pub(crate) struct Changes {
    metadata: Metadata,
}

impl Changes {
    pub(crate) fn new(metadata: Metadata) -> Self {
        Changes { metadata }
    }

    /// The index of the entry that made it so.
    pub(crate) async fn make(&self, actor: &str, command: Command) -> Result<u64, Error> {
        let applied = self.metadata.propose(actor, command).await?;
        match applied.outcome {
            Outcome::Done => Ok(applied.index),
            Outcome::Refused(refusal) => {
                Err(Error::from(refusal).header(LOG_ID, HeaderValue::from(applied.index)))
            }
        }
    }

    /// As [`Self::make`], and returns once every reachable member shows it.
    pub(crate) async fn make_everywhere(&self, actor: &str, command: Command) -> Result<u64, Error> {
        let index = self.make(actor, command).await?;
        self.metadata.wait_applied_everywhere(index, EVERYWHERE_WAIT).await;
        Ok(index)
    }
}

impl From<ProposeError> for Error {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NoLeader => Error::new(
                Problem::Unavailable,
                "the cluster has no leader now; nothing was changed, try again",
            ),
            ProposeError::Unknown(why) => {
                tracing::warn!(%why, "a change may or may not take effect, and the client was told to try again; nothing to do unless it repeats, then see `trow cluster status`");
                Error::new(Problem::Unavailable, OUTCOME_UNKNOWN)
            }
            ProposeError::TooLarge(bytes) => {
                Error::new(Problem::ManifestTooLarge, "the manifest is too large with its references")
                    .detail(json!({ "bytes": bytes }))
            }
            ProposeError::Busy => {
                Error::new(Problem::Unavailable, "too many changes at once; nothing was changed, try again")
            }
            error @ (ProposeError::Level { .. } | ProposeError::Refused(_)) => {
                let why = error.to_string();
                tracing::warn!(%why, "a change was refused and the client told to try again; nothing to do unless it repeats, then see `trow cluster status`");
                Error::new(Problem::Unavailable, "the cluster cannot take this change now; try again")
            }
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::BlobsUnknown { digests } | Refusal::ManifestsUnknown { digests } => missing(&digests),
            Refusal::NotFound => Error::new(Problem::ManifestUnknown, "not in the repository"),
            Refusal::InUse => Error::new(
                Problem::InUse,
                "a manifest of the repository uses the blob; delete the manifest first",
            ),
            Refusal::ConditionFailed { current } => {
                Error::new(Problem::ConditionFailed, "the tag is not where the condition says")
                    .detail(json!({ "current": current }))
            }
            Refusal::SizeDiffers { known } => {
                Error::new(Problem::SizeInvalid, "the blob is known with another size")
                    .detail(json!({ "known": known }))
            }
            // What remains is between nodes; a client can only try again.
            other => {
                tracing::warn!(refusal = %other, "the state refused a change and the client was told to try again; nothing to do unless it repeats");
                Error::new(Problem::Unavailable, "the change was refused now; try again")
            }
        }
    }
}

/// 404: the manifest names what the repository does not have.
pub(crate) fn missing(digests: &[trow_raft::Digest]) -> Error {
    // One OCI error is enough for a program, a few digests are enough for a person.
    let shown: Vec<_> = digests.iter().take(50).collect();
    Error::new(
        Problem::ManifestBlobUnknown,
        "the manifest names what the repository does not have; push it first",
    )
    .detail(json!({ "missing": shown, "count": digests.len() }))
}
