//! Commands into protobuf.

use crate::codec::digest_bytes;
use crate::command::{Command, NewManifest, TagCondition};
use crate::digest::Digest;
use crate::id::NodeId;
use crate::member::{Evidence, Member};
use crate::name::{Reference, RepoName, Tag};
use crate::proto::entry as proto;
use crate::proto::entry::envelope::Command as Coded;
use crate::state::state_number;

pub(super) fn command(command: &Command) -> Coded {
    match command {
        Command::Birth { cluster, rf, level } => {
            Coded::Birth(proto::Birth { cluster: cluster.0, rf: *rf, level: *level })
        }
        Command::CommitBlob { repo, digest, size, evidence: of } => Coded::CommitBlob(proto::CommitBlob {
            repo: repo.to_string(),
            digest: digest_bytes(digest),
            size: *size,
            evidence: evidence(of),
        }),
        Command::MountBlob { from, to, digest } => Coded::MountBlob(proto::MountBlob {
            from: from.to_string(),
            to: to.to_string(),
            digest: digest_bytes(digest),
        }),
        Command::WantLinks { links: of } => Coded::WantLinks(proto::WantLinks { links: links(of) }),
        Command::DeleteLink { repo, digest } => {
            Coded::DeleteLink(proto::DeleteLink { repo: repo.to_string(), digest: digest_bytes(digest) })
        }
        Command::PutManifest { repo, manifest, tags, condition, sparse } => {
            Coded::PutManifest(put_manifest(repo, manifest, tags, condition.as_ref(), *sparse))
        }
        Command::DeleteManifest { repo, digest } => Coded::DeleteManifest(proto::DeleteManifest {
            repo: repo.to_string(),
            digest: digest_bytes(digest),
        }),
        Command::DeleteTag { repo, tag, condition: of } => Coded::DeleteTag(proto::DeleteTag {
            repo: repo.to_string(),
            tag: tag.to_string(),
            condition: of.as_ref().map(condition),
        }),
        Command::Reclaim { links: of, blobs, before } => {
            Coded::Reclaim(proto::Reclaim { links: links(of), blobs: digests(blobs), before: *before })
        }
        Command::Tick { elapsed } => Coded::Tick(proto::Tick { elapsed: *elapsed }),
        Command::ChangeMember { member: of } => Coded::ChangeMember(member(of)),
        Command::SetMemberState { node, state } => {
            Coded::SetMemberState(proto::SetMemberState { node: node.0, state: state_number(*state) })
        }
        Command::RemoveMember { node } => Coded::RemoveMember(proto::RemoveMember { node: node.0 }),
        Command::FenceStore { node, generation } => {
            Coded::FenceStore(proto::FenceStore { node: node.0, generation: generation.0 })
        }
        Command::SetPartitions { owners, base } => Coded::SetPartitions(proto::SetPartitions {
            partitions: owners
                .iter()
                .map(|(partition, owners)| proto::Owners {
                    partition: partition.index().into(),
                    owners: nodes(owners),
                })
                .collect(),
            base: *base,
        }),
        Command::PartitionReady { node, generation, partitions } => {
            let partitions = partitions.iter();
            Coded::PartitionReady(proto::PartitionReady {
                node: node.0,
                generation: generation.0,
                partitions: partitions
                    .map(|(partition, at)| proto::Ready {
                        partition: partition.index().into(),
                        added_at: *at,
                    })
                    .collect(),
            })
        }
        Command::SettleBlobs { blobs } => Coded::SettleBlobs(proto::SettleBlobs {
            blobs: blobs
                .iter()
                .map(|(digest, of)| proto::Settled { digest: digest_bytes(digest), evidence: evidence(of) })
                .collect(),
        }),
        Command::SetLost { digests: of, seen } => {
            Coded::SetLost(proto::SetLost { digests: digests(of), seen: *seen })
        }
        Command::SetLevel { level } => Coded::SetLevel(proto::SetLevel { level: *level }),
        Command::SetRf { rf } => Coded::SetRf(proto::SetRf { rf: *rf }),
        Command::PutCached { repo, manifest, tag } => Coded::PutCached(proto::PutCached {
            manifest: Some(put_manifest(repo, manifest, &[], None, false)),
            tag: tag.as_ref().map(|(tag, seen)| proto::SeenTag { tag: tag.to_string(), revision: *seen }),
        }),
        Command::TagCached { repo, digest, tag, seen } => Coded::TagCached(proto::TagCached {
            repo: repo.to_string(),
            digest: digest_bytes(digest),
            tag: Some(proto::SeenTag { tag: tag.to_string(), revision: *seen }),
        }),
        Command::DropCached { repo, digests: of } => {
            Coded::DropCached(proto::DropCached { repo: repo.to_string(), digests: digests(of) })
        }
        Command::WantCached { manifests } => {
            Coded::WantCached(proto::WantCached { manifests: links(manifests) })
        }
        Command::ReclaimCached { manifests, before } => {
            Coded::ReclaimCached(proto::ReclaimCached { manifests: links(manifests), before: *before })
        }
        Command::SetPins { add, remove } => {
            Coded::SetPins(proto::SetPins { add: pins(add), remove: pins(remove) })
        }
        Command::SetPolicy { base, document } => {
            Coded::SetPolicy(proto::SetPolicy { base: *base, document: document.clone() })
        }
        Command::PutVerdict { digest, revision, signed_by } => Coded::PutVerdict(proto::PutVerdict {
            digest: digest_bytes(digest),
            revision: *revision,
            signed_by: signed_by.clone(),
        }),
        Command::PutSealed { name, base, ciphertext } => Coded::PutSealed(proto::PutSealed {
            name: name.clone(),
            base: *base,
            ciphertext: ciphertext.clone(),
        }),
        #[cfg(feature = "next-level")]
        Command::Probe => Coded::Probe(proto::Nothing {}),
    }
}

fn put_manifest(
    repo: &RepoName,
    manifest: &NewManifest,
    tags: &[Tag],
    of: Option<&TagCondition>,
    sparse: bool,
) -> proto::PutManifest {
    proto::PutManifest {
        repo: repo.to_string(),
        digest: digest_bytes(&manifest.digest),
        media_type: manifest.media_type.clone(),
        artifact_type: manifest.artifact_type.clone(),
        content: manifest.bytes.clone(),
        blobs: digests(&manifest.blobs),
        children: digests(&manifest.children),
        subject: manifest.subject.as_ref().map(digest_bytes),
        descriptor: manifest.descriptor.clone(),
        tags: tags.iter().map(Tag::to_string).collect(),
        condition: of.map(condition),
        sparse,
    }
}

fn member(member: &Member) -> proto::Member {
    proto::Member {
        id: member.id.0,
        name: member.name.clone(),
        zone: member.zone.clone(),
        state: state_number(member.state),
        generation: member.generation.0,
        max_level: member.max_level,
        weight: member.weight,
        client: member.client.clone(),
        peer: member.peer.clone(),
    }
}

pub(super) fn condition(condition: &TagCondition) -> proto::TagCondition {
    match condition {
        TagCondition::Absent => proto::TagCondition { is: None },
        TagCondition::Is(digest) => proto::TagCondition { is: Some(digest_bytes(digest)) },
    }
}

pub(super) fn digests(digests: &[Digest]) -> Vec<bytes::Bytes> {
    digests.iter().map(digest_bytes).collect()
}

fn nodes(nodes: &[NodeId]) -> Vec<u64> {
    nodes.iter().map(|node| node.0).collect()
}

fn evidence(evidence: &[Evidence]) -> Vec<proto::Evidence> {
    let evidence = evidence.iter();
    evidence.map(|one| proto::Evidence { node: one.node.0, generation: one.generation.0 }).collect()
}

fn links(links: &[(RepoName, Digest)]) -> Vec<proto::Link> {
    let links = links.iter();
    links.map(|(repo, digest)| proto::Link { repo: repo.to_string(), digest: digest_bytes(digest) }).collect()
}

fn pins(pins: &[(RepoName, Reference)]) -> Vec<proto::Pin> {
    let pins = pins.iter();
    pins.map(|(repo, of)| proto::Pin { repo: repo.to_string(), reference: of.to_string() }).collect()
}
