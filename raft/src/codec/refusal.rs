//! Refusals into and out of protobuf.

use crate::codec::{CodecError, decode, digest_bytes, encode};
use crate::command::Refusal;
use crate::id::{ClusterId, NodeId};
use crate::proto::entry as proto;
use crate::proto::entry::Nothing;
use crate::proto::entry::refusal::Why;

pub(super) fn encode(refusal: &Refusal) -> proto::Refusal {
    let digests = |list| proto::Digests { digests: encode::digests(list) };
    let why = match refusal {
        Refusal::StaleEvidence { needed } => Why::StaleEvidence(*needed),
        Refusal::SizeDiffers { known } => Why::SizeDiffers(*known),
        Refusal::BlobsUnknown { digests: list } => Why::BlobsUnknown(digests(list)),
        Refusal::ManifestsUnknown { digests: list } => Why::ManifestsUnknown(digests(list)),
        Refusal::NotFound => Why::NotFound(Nothing {}),
        Refusal::InUse => Why::InUse(Nothing {}),
        Refusal::ConditionFailed { current } => {
            Why::ConditionFailed(proto::TagCondition { is: current.as_ref().map(digest_bytes) })
        }
        Refusal::UnknownMember => Why::UnknownMember(Nothing {}),
        Refusal::NameTaken { by } => Why::NameTaken(by.0),
        Refusal::Removed => Why::Removed(Nothing {}),
        Refusal::StaleBase => Why::StaleBase(Nothing {}),
        Refusal::StaleSequence => Why::StaleSequence(Nothing {}),
        Refusal::AlreadyBorn { cluster } => Why::AlreadyBorn(cluster.0),
        Refusal::LevelUnsupported => Why::LevelUnsupported(Nothing {}),
        Refusal::Invalid => Why::Invalid(Nothing {}),
        Refusal::TooMany { limit } => Why::TooMany(*limit),
        Refusal::RevisionDiffers { current } => Why::RevisionDiffers(*current),
    };
    proto::Refusal { why: Some(why) }
}

pub(super) fn decode(refusal: proto::Refusal) -> Result<Refusal, CodecError> {
    let why = refusal.why.ok_or(CodecError::Unknown { what: "a refusal" })?;
    Ok(match why {
        Why::StaleEvidence(needed) => Refusal::StaleEvidence { needed },
        Why::SizeDiffers(known) => Refusal::SizeDiffers { known },
        Why::BlobsUnknown(list) => Refusal::BlobsUnknown { digests: decode::digests(&list.digests)? },
        Why::ManifestsUnknown(list) => Refusal::ManifestsUnknown { digests: decode::digests(&list.digests)? },
        Why::NotFound(_) => Refusal::NotFound,
        Why::InUse(_) => Refusal::InUse,
        Why::ConditionFailed(tag) => {
            Refusal::ConditionFailed { current: tag.is.as_deref().map(decode::digest).transpose()? }
        }
        Why::UnknownMember(_) => Refusal::UnknownMember,
        Why::NameTaken(by) => Refusal::NameTaken { by: NodeId(by) },
        Why::Removed(_) => Refusal::Removed,
        Why::StaleBase(_) => Refusal::StaleBase,
        Why::StaleSequence(_) => Refusal::StaleSequence,
        Why::AlreadyBorn(cluster) => Refusal::AlreadyBorn { cluster: ClusterId(cluster) },
        Why::LevelUnsupported(_) => Refusal::LevelUnsupported,
        Why::Invalid(_) => Refusal::Invalid,
        Why::TooMany(limit) => Refusal::TooMany { limit },
        Why::RevisionDiffers(current) => Refusal::RevisionDiffers { current },
    })
}
