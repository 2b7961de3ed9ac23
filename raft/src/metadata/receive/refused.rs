//! Why a snapshot is not taken, to its sender and to whoever reads the log.

use tonic::Status;

use crate::consensus::too_old::too_old_for;
use crate::consensus::types::Vote;
use crate::id::NodeId;
use crate::metadata::Metadata;
use crate::metadata::complaints::About;
use crate::state::{FORMAT, ImportError};

impl Metadata {
    /// Why a state cannot be taken. When it is the leader that this node follows that sends one
    /// which this version is too old for, the process ends: it would be sent the same for ever.
    pub(in crate::metadata) fn refused(
        &self,
        peer: NodeId,
        vote: Vote,
        last: u64,
        error: ImportError,
    ) -> Status {
        let due = || self.0.complaints.due(peer, About::Snapshot);
        match error {
            ImportError::State(error) if error.is_too_old() => {
                self.end_if_left_behind(peer, vote, last, &error);
                Status::failed_precondition(error.to_string())
            }
            ImportError::Forged(why) => {
                if let Some(left_out) = due() {
                    tracing::error!(%peer, left_out, why, "refused a snapshot that no healthy member sends; look at that node: its version, its disk, and whether somebody else has its key");
                }
                Status::invalid_argument(why)
            }
            ImportError::State(error) => {
                if let Some(left_out) = due() {
                    tracing::error!(cause = %error, left_out, "the state that the leader sends cannot be written; check the disk of the data directory, it is sent again");
                }
                Status::resource_exhausted(error.to_string())
            }
        }
    }

    /// Refuses rows that are written in another way than this version knows.
    pub(super) fn other_form(&self, peer: NodeId, vote: Vote, last: u64, format: u32) -> Status {
        let error = OtherForm(format);
        if format > FORMAT {
            self.end_if_left_behind(peer, vote, last, &error);
        }
        if let Some(left_out) = self.0.complaints.due(peer, About::Snapshot) {
            tracing::error!(%peer, left_out, format, "refused a snapshot in a form that this build does not read: run the version of the leader here");
        }
        Status::failed_precondition(error.to_string())
    }

    fn end_if_left_behind(&self, peer: NodeId, vote: Vote, last: u64, error: &dyn std::error::Error) {
        if self.followed() == Some((peer, vote)) && self.is_in_membership(peer) {
            too_old_for(peer, last, error);
        }
    }
}

/// The leader writes rows in another way.
#[derive(Debug, thiserror::Error)]
#[error("the snapshot is of form {0}, and this version of Trow reads form {FORMAT}")]
struct OtherForm(u32);

/// Something panicked over what the peer sent; the node goes on without it.
pub(in crate::metadata) fn failed(peer: NodeId, error: &tokio::task::JoinError) -> Status {
    tracing::error!(%peer, cause = %error, "a snapshot could not be looked at; it is sent again, report this line if it repeats");
    Status::internal(error.to_string())
}
