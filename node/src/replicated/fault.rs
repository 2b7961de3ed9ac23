//! What failures of the store and of peers mean to an upload, and what that means to its client.

use std::error::Error;
use std::io;

use tracing::error;
use trow_api::blobs::UploadError;

use crate::peer_blobs::PeerError;
use crate::peer_blobs::wire::Fault;
use crate::store::{HoldError, StoreError};

/// What a failure of the store means to the upload; logged here.
pub(super) fn store_fault(error: StoreError) -> Fault {
    match error {
        StoreError::NoSpace => Fault::NoSpace,
        error => {
            error!(
                error = &error as &dyn Error,
                "the store failed an upload, and the client is told to try again; check the disk"
            );
            Fault::unavailable("the store of the node failed; its log says how")
        }
    }
}

/// What it means that the bytes cannot be held.
pub(super) fn hold_fault(error: HoldError) -> Fault {
    match error {
        HoldError::DigestMismatch { .. } => Fault::DigestMismatch,
        HoldError::Store(error) => store_fault(error),
    }
}

/// What a peer's answer means to the upload: its own word, or that it cannot be reached.
pub(super) fn peer_fault(error: PeerError) -> Fault {
    match error {
        PeerError::Fault(fault) => fault,
        PeerError::Unreachable { .. } => Fault::unavailable(error),
    }
}

/// What a fault means to the client.
pub(super) fn upload_error(fault: Fault) -> UploadError {
    match fault {
        Fault::Unknown | Fault::Stale { .. } => UploadError::Unknown,
        Fault::OutOfOrder { have } => UploadError::OutOfOrder { have, token: None },
        Fault::DigestMismatch => UploadError::DigestMismatch,
        Fault::NoSpace => UploadError::NoSpace,
        Fault::TooMany => UploadError::TooMany,
        Fault::BrokeOff { why } => UploadError::ClientGone(io::Error::other(why)),
        Fault::Unavailable { why } | Fault::Upstream { why, .. } => UploadError::Unavailable(why),
    }
}
