//! Commands out of protobuf: every name, tag and digest is checked again, since the bytes may
//! come from another version or from a damaged disk.

use bytes::Bytes;

use crate::codec::{CodecError, digest_from};
use crate::command::{Command, NewManifest, TagCondition};
use crate::digest::{Digest, PartitionId};
use crate::id::{ClusterId, Generation, NodeId};
use crate::member::{Evidence, Member, MemberState};
use crate::name::{Reference, RepoName, Tag};
use crate::proto::entry as proto;
use crate::proto::entry::envelope::Command as Coded;
use crate::state::state_of;

type Decoded<T> = Result<T, CodecError>;

pub(super) fn command(coded: Coded) -> Decoded<Command> {
    Ok(match coded {
        Coded::Birth(it) => Command::Birth { cluster: ClusterId(it.cluster), rf: it.rf, level: it.level },
        Coded::CommitBlob(it) => Command::CommitBlob {
            repo: repo(&it.repo)?,
            digest: digest(&it.digest)?,
            size: it.size,
            evidence: evidence(it.evidence),
        },
        Coded::MountBlob(it) => {
            Command::MountBlob { from: repo(&it.from)?, to: repo(&it.to)?, digest: digest(&it.digest)? }
        }
        Coded::WantLinks(it) => Command::WantLinks { links: links(it.links)? },
        Coded::DeleteLink(it) => Command::DeleteLink { repo: repo(&it.repo)?, digest: digest(&it.digest)? },
        Coded::PutManifest(it) => put_manifest(it)?,
        Coded::DeleteManifest(it) => {
            Command::DeleteManifest { repo: repo(&it.repo)?, digest: digest(&it.digest)? }
        }
        Coded::DeleteTag(it) => Command::DeleteTag {
            repo: repo(&it.repo)?,
            tag: tag(&it.tag)?,
            condition: it.condition.map(condition).transpose()?,
        },
        Coded::Reclaim(it) => {
            Command::Reclaim { links: links(it.links)?, blobs: digests(&it.blobs)?, before: it.before }
        }
        Coded::Tick(it) => Command::Tick { elapsed: it.elapsed },
        Coded::ChangeMember(it) => Command::ChangeMember { member: member(it)? },
        Coded::SetMemberState(it) => {
            Command::SetMemberState { node: NodeId(it.node), state: member_state(it.state)? }
        }
        Coded::RemoveMember(it) => Command::RemoveMember { node: NodeId(it.node) },
        Coded::FenceStore(it) => {
            Command::FenceStore { node: NodeId(it.node), generation: Generation(it.generation) }
        }
        Coded::SetPartitions(it) => Command::SetPartitions {
            owners: it
                .partitions
                .into_iter()
                .map(|one| Ok((partition(one.partition)?, one.owners.into_iter().map(NodeId).collect())))
                .collect::<Decoded<_>>()?,
            base: it.base,
        },
        Coded::PartitionReady(it) => Command::PartitionReady {
            node: NodeId(it.node),
            generation: Generation(it.generation),
            partitions: it
                .partitions
                .into_iter()
                .map(|one| Ok((partition(one.partition)?, one.added_at)))
                .collect::<Decoded<_>>()?,
        },
        Coded::SettleBlobs(it) => Command::SettleBlobs {
            blobs: it
                .blobs
                .into_iter()
                .map(|one| Ok((digest(&one.digest)?, evidence(one.evidence))))
                .collect::<Decoded<_>>()?,
        },
        Coded::SetLost(it) => Command::SetLost { digests: digests(&it.digests)?, seen: it.seen },
        Coded::SetLevel(it) => Command::SetLevel { level: it.level },
        Coded::SetRf(it) => Command::SetRf { rf: it.rf },
        Coded::PutCached(it) => put_cached(it)?,
        Coded::TagCached(it) => tag_cached(&it)?,
        Coded::DropCached(it) => {
            Command::DropCached { repo: repo(&it.repo)?, digests: digests(&it.digests)? }
        }
        Coded::WantCached(it) => Command::WantCached { manifests: links(it.manifests)? },
        Coded::ReclaimCached(it) => {
            Command::ReclaimCached { manifests: links(it.manifests)?, before: it.before }
        }
        Coded::SetPins(it) => Command::SetPins { add: pins(&it.add)?, remove: pins(&it.remove)? },
        Coded::SetPolicy(it) => Command::SetPolicy { base: it.base, document: it.document },
        Coded::PutVerdict(it) => Command::PutVerdict {
            digest: digest(&it.digest)?,
            revision: it.revision,
            signed_by: it.signed_by,
        },
        Coded::PutSealed(it) => {
            Command::PutSealed { name: it.name, base: it.base, ciphertext: it.ciphertext }
        }
        #[cfg(feature = "next-level")]
        Coded::Probe(_) => Command::Probe,
    })
}

fn put_manifest(it: proto::PutManifest) -> Decoded<Command> {
    Ok(Command::PutManifest {
        repo: repo(&it.repo)?,
        tags: it.tags.iter().map(|text| tag(text)).collect::<Decoded<_>>()?,
        condition: it.condition.clone().map(condition).transpose()?,
        sparse: it.sparse,
        manifest: manifest(it)?,
    })
}

fn put_cached(it: proto::PutCached) -> Decoded<Command> {
    let what = it.manifest.ok_or(CodecError::Invalid { what: "manifest" })?;
    if !what.tags.is_empty() || what.condition.is_some() || what.sparse {
        return Err(CodecError::Invalid { what: "manifest" });
    }
    let seen = |it: proto::SeenTag| -> Decoded<_> { Ok((tag(&it.tag)?, it.revision)) };
    Ok(Command::PutCached {
        repo: repo(&what.repo)?,
        tag: it.tag.map(seen).transpose()?,
        manifest: manifest(what)?,
    })
}

fn tag_cached(it: &proto::TagCached) -> Decoded<Command> {
    let seen = it.tag.as_ref().ok_or(CodecError::Invalid { what: "tag" })?;
    Ok(Command::TagCached {
        repo: repo(&it.repo)?,
        digest: digest(&it.digest)?,
        tag: tag(&seen.tag)?,
        seen: seen.revision,
    })
}

fn manifest(it: proto::PutManifest) -> Decoded<NewManifest> {
    Ok(NewManifest {
        digest: digest(&it.digest)?,
        media_type: it.media_type,
        artifact_type: it.artifact_type,
        bytes: it.content,
        blobs: digests(&it.blobs)?,
        children: digests(&it.children)?,
        subject: it.subject.as_deref().map(digest).transpose()?,
        descriptor: it.descriptor,
    })
}

fn member(it: proto::Member) -> Decoded<Member> {
    Ok(Member {
        id: NodeId(it.id),
        name: it.name,
        zone: it.zone,
        state: member_state(it.state)?,
        generation: Generation(it.generation),
        max_level: it.max_level,
        weight: it.weight,
        client: it.client,
        peer: it.peer,
    })
}

fn member_state(number: u32) -> Decoded<MemberState> {
    state_of(number).ok_or(CodecError::Unknown { what: "a member state" })
}

fn partition(index: u32) -> Decoded<PartitionId> {
    let id = u16::try_from(index).ok().and_then(PartitionId::new);
    id.ok_or(CodecError::Invalid { what: "partition" })
}

pub(super) fn condition(it: proto::TagCondition) -> Decoded<TagCondition> {
    Ok(match it.is {
        None => TagCondition::Absent,
        Some(bytes) => TagCondition::Is(digest(&bytes)?),
    })
}

fn repo(text: &str) -> Decoded<RepoName> {
    text.parse().map_err(|_| CodecError::Invalid { what: "repository name" })
}

fn tag(text: &str) -> Decoded<Tag> {
    text.parse().map_err(|_| CodecError::Invalid { what: "tag" })
}

pub(super) fn digest(bytes: &[u8]) -> Decoded<Digest> {
    digest_from(bytes).map_err(|_| CodecError::Invalid { what: "digest" })
}

pub(super) fn digests(list: &[Bytes]) -> Decoded<Vec<Digest>> {
    list.iter().map(|bytes| digest(bytes)).collect()
}

fn evidence(list: Vec<proto::Evidence>) -> Vec<Evidence> {
    let list = list.into_iter();
    list.map(|one| Evidence { node: NodeId(one.node), generation: Generation(one.generation) }).collect()
}

fn links(list: Vec<proto::Link>) -> Decoded<Vec<(RepoName, Digest)>> {
    list.into_iter().map(|one| Ok((repo(&one.repo)?, digest(&one.digest)?))).collect()
}

fn pins(list: &[proto::Pin]) -> Decoded<Vec<(RepoName, Reference)>> {
    let reference = |text: &str| text.parse().map_err(|_| CodecError::Invalid { what: "reference" });
    list.iter().map(|one| Ok((repo(&one.repo)?, reference(&one.reference)?))).collect()
}
