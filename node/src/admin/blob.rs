//! `GET blobs/<digest>`: where a blob should be, and who says that it has it.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use trow_raft::{Digest, NodeId};

use super::document::{BlobDocument, HolderDocument};
use super::{Admin, AdminError, CONFIRM};

impl Admin {
    pub(super) async fn blob(&self, digest: &str) -> Result<BlobDocument, AdminError> {
        let digest: Digest = digest
            .parse()
            .map_err(|error| AdminError::BadRequest(format!("{digest:?} is no digest: {error}")))?;
        let mut view = self.metadata.digest_view().await;
        if view.blob(&digest)?.is_none() {
            // That it is unknown must be true everywhere before it is said.
            view = self.metadata.read(CONFIRM).await?;
        }
        let row =
            view.blob(&digest)?.ok_or_else(|| AdminError::NotFound(format!("no blob {digest} is known")))?;
        let (holders, silent) = self.blobs.locate(&digest).await?;
        let members = view.members()?;
        let name =
            |id: NodeId| members.iter().find(|member| member.id == id).map(|member| member.name.clone());
        let partition = view.partition(digest.partition())?;
        Ok(BlobDocument {
            digest: digest.to_string(),
            size: row.size,
            durable: !row.lost,
            repos: view.repos_of(&digest)?.iter().map(ToString::to_string).collect(),
            owners: partition.owners.iter().map(|owner| name(owner.node)).collect(),
            sources: partition.sources.iter().map(|node| name(*node)).collect(),
            away: row.away.iter().map(|node| name(*node)).collect(),
            holders: holders
                .iter()
                .map(|holder| HolderDocument {
                    node: name(holder.node),
                    verified_at: holder.verified_at.and_then(rfc3339),
                })
                .collect(),
            silent: silent.iter().map(|node| name(*node)).collect(),
        })
    }
}

/// Milliseconds since 1970 as RFC 3339, to the second.
pub(super) fn rfc3339(ms: u64) -> Option<String> {
    let seconds = i64::try_from(ms / 1000).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}
