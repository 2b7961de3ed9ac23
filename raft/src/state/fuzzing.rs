//! The state's half of [`crate::fuzzing`]: a small state in memory to apply commands to.

use std::cell::RefCell;

use bytes::Bytes;

use super::apply::batch;
use super::key;
use super::{ApplyEntry, State};
use crate::command::{Command, Envelope, NewManifest};
use crate::digest::Digest;
use crate::id::{ClusterId, Generation, NodeId};
use crate::member::{Evidence, Member, MemberState};
use crate::name::{Reference, RepoName};
use crate::planted::Planted;

thread_local! {
    static SEEDED: RefCell<Option<State>> = const { RefCell::new(None) };
}

/// The index that the seeded state stands at.
const LAST: u64 = 11;

/// Applies a command to a state that has a little of everything. Whatever it says, an outcome
/// comes of it: an error would end every process that applies it.
pub(crate) fn apply(envelope: Envelope) {
    SEEDED.with_borrow_mut(|seeded| {
        let state = seeded.get_or_insert_with(seed);
        let entry =
            ApplyEntry { index: LAST + 1, log_id: Bytes::new(), envelope: Some(envelope), membership: None };
        // Twice, as a retry is.
        let again = ApplyEntry { index: LAST + 2, ..entry.clone() };
        match batch(state.overlay(), &[entry, again], &state.versions, Planted::NONE) {
            Ok((outcomes, _)) => assert_eq!(outcomes.len(), 2),
            Err(error) => panic!("a command ends every process: {error}"),
        }
    });
}

/// A name that ends a key, and begins one, is found in it again.
pub(crate) fn repo_keys(repo: &RepoName) {
    let digest = Digest::sha256(b"");
    let key = key::repo_digest(repo, &digest);
    let split = key::split_repo(&key).and_then(|(name, rest)| Some((name, key::split_digest(rest)?.0)));
    assert_eq!(split, Some((repo.clone(), digest)));
    let key = key::digest_repo(&digest, repo);
    let (_, rest) = key::split_digest(&key).expect("a digest");
    assert_eq!(key::repo_name(rest).as_ref(), Some(repo));
}

/// A digest is found again in a key, and lies in the range of its partition and of no other.
pub(crate) fn digest_keys(digest: &Digest) {
    let key = key::digest(digest);
    assert_eq!(key::split_digest(&key), Some((*digest, &[][..])));
    let (from, to) = key::partition_range(digest.algorithm(), digest.partition());
    assert!(from <= key && key < to);
}

fn seed() -> State {
    let state = State::in_memory().expect("in memory");
    let (node, repo) = (NodeId(1), "a".parse::<RepoName>().expect("a name"));
    let cached = "f/h/a".parse::<RepoName>().expect("a name");
    let (blob, generation) = (Digest::sha256(b"blob"), Generation(1));
    let member = Member {
        id: node,
        name: "n1".to_owned(),
        zone: String::new(),
        state: MemberState::Joining,
        generation,
        max_level: crate::command::LEVEL,
        weight: 1,
        client: String::new(),
        peer: String::new(),
    };
    let manifest = NewManifest {
        digest: Digest::sha256(b"manifest"),
        media_type: "m".to_owned(),
        artifact_type: None,
        bytes: Bytes::from_static(b"manifest"),
        blobs: vec![blob],
        children: Vec::new(),
        subject: Some(Digest::sha256(b"subject")),
        descriptor: Some(Bytes::from_static(b"{}")),
    };
    let owners = (0..2).filter_map(crate::digest::PartitionId::new).map(|id| (id, vec![node])).collect();
    let commands = [
        Command::Birth { cluster: ClusterId(1), rf: 1, level: crate::command::LEVEL },
        Command::ChangeMember { member },
        Command::SetMemberState { node, state: MemberState::Active },
        Command::SetPartitions { owners, base: 0 },
        Command::CommitBlob {
            repo: repo.clone(),
            digest: blob,
            size: 4,
            evidence: vec![Evidence { node, generation }],
        },
        Command::PutCached {
            repo: cached.clone(),
            manifest: manifest.clone(),
            tag: Some(("t".parse().expect("a tag"), 0)),
        },
        Command::SetPins {
            add: vec![(cached, Reference::Tag("t".parse().expect("a tag")))],
            remove: Vec::new(),
        },
        Command::PutManifest {
            repo,
            manifest,
            tags: vec!["t".parse().expect("a tag")],
            condition: None,
            sparse: false,
        },
        Command::SetPolicy { base: Some(0), document: Bytes::from_static(b"version: 1") },
        Command::PutVerdict { digest: blob, revision: 9, signed_by: vec!["k".to_owned()] },
        Command::PutSealed { name: "s".to_owned(), base: 0, ciphertext: Bytes::from_static(b"x") },
    ];
    let entries: Vec<ApplyEntry> =
        (1..).zip(commands).map(|(index, command)| entry(node, index, command)).collect();
    let outcomes = state.apply(&entries).expect("in memory");
    assert!(outcomes.iter().all(|applied| applied.outcome == crate::command::Outcome::Done), "{outcomes:?}");
    assert_eq!(entries.len() as u64, LAST);
    state
}

fn entry(node: NodeId, index: u64, command: Command) -> ApplyEntry {
    let level = command.level();
    let envelope = Envelope { node, boot: 1, seq: index, now: 0, actor: "x".to_owned(), level, command };
    ApplyEntry { index, log_id: Bytes::new(), envelope: Some(envelope), membership: None }
}
