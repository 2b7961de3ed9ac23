//! What is written is read back as it was, and what this build does not know is refused.

use super::*;
use crate::command::{Command, NewManifest, Refusal, TagCondition};
use crate::digest::PartitionId;
use crate::id::{ClusterId, Generation};
use crate::member::{Evidence, Member, MemberState};
use crate::name::Reference;

fn envelope(command: Command) -> Envelope {
    Envelope {
        node: NodeId(7),
        boot: 2,
        seq: 9,
        now: 1_700_000_000_000,
        actor: "alice".into(),
        level: 1,
        command,
    }
}

/// One of each command, with every optional part there and, where it differs, missing.
fn commands() -> Vec<Command> {
    let repo = || "library/nginx".parse().unwrap();
    let (a, b) = (Digest::sha256(b"a"), Digest::of(Algorithm::Sha512, b"b"));
    let evidence = || vec![Evidence { node: NodeId(u64::MAX), generation: Generation(3) }];
    let manifest = |full: bool| NewManifest {
        digest: a,
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        artifact_type: full.then(|| "application/x".into()),
        bytes: Bytes::from_static(b"{}"),
        blobs: vec![a, b],
        children: if full { vec![b] } else { vec![] },
        subject: full.then_some(b),
        descriptor: full.then(|| Bytes::from_static(b"{\"size\":2}")),
    };
    let put = |full: bool, condition| Command::PutManifest {
        repo: repo(),
        manifest: manifest(full),
        tags: if full { vec!["v1".parse().unwrap(), "latest".parse().unwrap()] } else { vec![] },
        condition,
        sparse: full,
    };
    let member = Member {
        id: NodeId(1),
        name: "n1".into(),
        zone: String::new(),
        state: MemberState::Joining,
        generation: Generation(0),
        max_level: 1,
        weight: 100,
        client: "127.0.0.1:5000".into(),
        peer: String::new(),
    };
    let partition = PartitionId::new(1023).unwrap();
    let pins = || vec![(repo(), Reference::Tag("v1".parse().unwrap())), (repo(), Reference::Digest(b))];
    vec![
        Command::Birth { cluster: ClusterId(5), rf: 3, level: 1 },
        Command::CommitBlob { repo: repo(), digest: a, size: u64::MAX, evidence: evidence() },
        Command::MountBlob { from: repo(), to: "x/y".parse().unwrap(), digest: b },
        Command::WantLinks { links: vec![(repo(), a)] },
        Command::DeleteLink { repo: repo(), digest: a },
        put(true, Some(TagCondition::Absent)),
        put(false, Some(TagCondition::Is(b))),
        put(false, None),
        Command::DeleteManifest { repo: repo(), digest: b },
        Command::DeleteTag { repo: repo(), tag: "t".parse().unwrap(), condition: Some(TagCondition::Is(a)) },
        Command::Reclaim { links: vec![(repo(), b)], blobs: vec![a], before: 77 },
        Command::Tick { elapsed: 0 },
        Command::ChangeMember { member },
        Command::SetMemberState { node: NodeId(1), state: MemberState::Draining },
        Command::RemoveMember { node: NodeId(1) },
        Command::FenceStore { node: NodeId(1), generation: Generation(8) },
        Command::SetPartitions { owners: vec![(partition, vec![NodeId(2), NodeId(1)])], base: 12 },
        Command::PartitionReady {
            node: NodeId(2),
            generation: Generation(1),
            partitions: vec![(partition, 13)],
        },
        Command::SettleBlobs { blobs: vec![(a, evidence()), (b, vec![])] },
        Command::SetLost { digests: vec![a], seen: 40 },
        Command::SetLevel { level: 1 },
        Command::SetRf { rf: 5 },
        Command::PutCached { repo: repo(), manifest: manifest(true), tag: Some(("t".parse().unwrap(), 9)) },
        Command::PutCached { repo: repo(), manifest: manifest(false), tag: Some(("t".parse().unwrap(), 0)) },
        Command::PutCached { repo: repo(), manifest: manifest(false), tag: None },
        Command::DropCached { repo: repo(), digests: vec![a, b] },
        Command::TagCached { repo: repo(), digest: a, tag: "t".parse().unwrap(), seen: 9 },
        Command::TagCached { repo: repo(), digest: b, tag: "t".parse().unwrap(), seen: 0 },
        Command::WantCached { manifests: vec![(repo(), a), (repo(), b)] },
        Command::ReclaimCached { manifests: vec![(repo(), b)], before: 77 },
        Command::SetPins { add: pins(), remove: vec![] },
        Command::SetPins { add: vec![], remove: pins() },
        Command::SetPolicy { base: None, document: Bytes::new() },
        Command::SetPolicy { base: Some(0), document: Bytes::from_static(b"version: 1\n") },
        Command::SetPolicy { base: Some(1 << 40), document: Bytes::from_static(b"version: 1\n") },
        Command::PutVerdict { digest: b, revision: 9, signed_by: vec!["a".into(), String::new()] },
        Command::PutSealed { name: "ca".into(), base: 0, ciphertext: Bytes::from_static(b"\0\xff") },
        #[cfg(feature = "next-level")]
        Command::Probe,
    ]
}

#[test]
fn every_command_comes_back_as_it_was() {
    for command in commands() {
        let envelope = envelope(command);
        assert_eq!(decode_envelope(encode_envelope(&envelope)).unwrap(), envelope);
    }
}

#[test]
fn every_outcome_comes_back_as_it_was() {
    let digests = vec![Digest::sha256(b"a"), Digest::of(Algorithm::Sha512, b"b")];
    let refusals = [
        Refusal::StaleEvidence { needed: 0 },
        Refusal::StaleEvidence { needed: 2 },
        Refusal::SizeDiffers { known: 1 << 40 },
        Refusal::BlobsUnknown { digests: digests.clone() },
        Refusal::ManifestsUnknown { digests: digests.clone() },
        Refusal::NotFound,
        Refusal::InUse,
        Refusal::ConditionFailed { current: None },
        Refusal::ConditionFailed { current: Some(digests[1]) },
        Refusal::UnknownMember,
        Refusal::NameTaken { by: NodeId(0) },
        Refusal::Removed,
        Refusal::StaleBase,
        Refusal::StaleSequence,
        Refusal::AlreadyBorn { cluster: ClusterId(9) },
        Refusal::LevelUnsupported,
        Refusal::Invalid,
        Refusal::TooMany { limit: 10_000 },
        Refusal::RevisionDiffers { current: 0 },
        Refusal::RevisionDiffers { current: 1 << 40 },
    ];
    let outcomes = refusals.into_iter().map(Outcome::Refused).chain([Outcome::Done]);
    for outcome in outcomes {
        let applied = Applied { index: 42, outcome };
        assert_eq!(decode_applied(encode_applied(&applied)).unwrap(), applied);
    }
}

#[test]
fn what_this_version_does_not_know_is_an_error() {
    let known = encode_envelope(&envelope(Command::Tick { elapsed: 5 }));
    // Field 99, a varint, at the end of the envelope: a later version's addition.
    let later = |bytes: &[u8]| Bytes::from([bytes, &[0x98, 0x06, 0x01]].concat());
    assert!(matches!(decode_envelope(later(&known)), Err(CodecError::Unknown { .. })));
    // The same inside the command: its length grows with it.
    let mut tick = prost::Message::encode_to_vec(&proto::Tick { elapsed: 5 });
    tick.extend([0x98, 0x06, 0x01]);
    let mut inner = vec![0xca, 0x01, tick.len() as u8];
    inner.extend(&tick);
    assert!(matches!(decode_envelope(inner.into()), Err(CodecError::Unknown { .. })));
    let unknown_command = Bytes::from_static(&[0x98, 0x3f, 0x01]);
    assert!(matches!(decode_envelope(unknown_command), Err(CodecError::Unknown { .. })));
    let above = Envelope { level: LEVEL + 1, ..envelope(Command::Tick { elapsed: 5 }) };
    assert!(matches!(decode_envelope(encode_envelope(&above)), Err(CodecError::Level { .. })));
}

#[test]
fn damaged_bytes_are_an_error_and_never_a_panic() {
    for command in commands() {
        let whole = encode_envelope(&envelope(command));
        for cut in 0..whole.len() {
            let _ = decode_envelope(whole.slice(..cut));
        }
        for at in 0..whole.len() {
            let mut flipped = whole.to_vec();
            flipped[at] ^= 0x55;
            let _ = decode_envelope(flipped.into());
        }
    }
    let bad = proto::Envelope {
        command: Some(proto::envelope::Command::DeleteLink(proto::DeleteLink {
            repo: "../..".into(),
            digest: digest_bytes(&Digest::sha256(b"")),
        })),
        ..Default::default()
    };
    let bytes = Bytes::from(prost::Message::encode_to_vec(&bad));
    assert!(matches!(decode_envelope(bytes), Err(CodecError::Invalid { what: "repository name" })));
}
