//! A state in a temporary directory with members in it, for tests.

use bytes::Bytes;

use crate::command::{Applied, Command, Envelope, LEVEL, NewManifest, Outcome, TagCondition};
use crate::digest::{Digest, PartitionId};
use crate::id::{ClusterId, Generation, NodeId};
use crate::member::{Evidence, Member, MemberState};
use crate::name::{RepoName, Tag};
use crate::planted::Planted;
use crate::state::{ApplyEntry, State, View};

pub(super) struct Bench {
    pub(super) dir: tempfile::TempDir,
    pub(super) state: State,
    pub(super) index: u64,
    seq: u64,
}

/// The number's node.
pub(super) const fn node(number: u64) -> NodeId {
    NodeId(number)
}

pub(super) fn repo(name: &str) -> RepoName {
    name.parse().unwrap()
}

pub(super) fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

pub(super) fn member(number: u64) -> Member {
    Member {
        id: node(number),
        name: format!("n{number}"),
        zone: String::new(),
        state: MemberState::Joining,
        generation: Generation(1),
        max_level: LEVEL,
        weight: 100,
        client: String::new(),
        peer: String::new(),
    }
}

/// Evidence of the nodes in generation 1.
pub(super) fn held_by(nodes: &[u64]) -> Vec<Evidence> {
    nodes.iter().map(|number| Evidence { node: node(*number), generation: Generation(1) }).collect()
}

pub(super) fn manifest(text: &str, blobs: &[Digest], children: &[Digest]) -> NewManifest {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let sorted = |list: &[Digest]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    NewManifest {
        digest: Digest::sha256(&bytes),
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        artifact_type: None,
        bytes,
        blobs: sorted(blobs),
        children: sorted(children),
        subject: None,
        descriptor: None,
    }
}

pub(super) fn put(name: &str, manifest: &NewManifest, tags: &[&str]) -> Command {
    put_if(name, manifest, tags, None)
}

pub(super) fn put_if(
    name: &str,
    manifest: &NewManifest,
    tags: &[&str],
    condition: Option<TagCondition>,
) -> Command {
    let tags = tags.iter().map(|name| tag(name)).collect();
    Command::PutManifest { repo: repo(name), manifest: manifest.clone(), tags, condition, sparse: false }
}

pub(super) fn commit(name: &str, digest: Digest, evidence: Vec<Evidence>) -> Command {
    Command::CommitBlob { repo: repo(name), digest, size: 100, evidence }
}

impl Bench {
    pub(super) fn new(planted: Planted) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.redb"), planted).unwrap();
        Bench { dir, state, index: 0, seq: 0 }
    }

    /// A cluster with members 1 to `nodes`, all active, at factor `rf`.
    pub(super) fn born(planted: Planted, nodes: u64, rf: u32) -> Bench {
        Bench::new(planted).with_members(nodes, rf)
    }

    /// As [`Bench::born`], with its rows in another place.
    pub(super) fn born_in(state: State, nodes: u64, rf: u32) -> Bench {
        Bench { dir: tempfile::tempdir().unwrap(), state, index: 0, seq: 0 }.with_members(nodes, rf)
    }

    fn with_members(self, nodes: u64, rf: u32) -> Bench {
        let mut bench = self;
        bench.done(Command::Birth { cluster: ClusterId(7), rf, level: 1 });
        for number in 1..=nodes {
            bench.done(Command::ChangeMember { member: member(number) });
            bench.done(Command::SetMemberState { node: node(number), state: MemberState::Active });
        }
        bench
    }

    /// With the commands of all levels.
    pub(super) fn raised(mut self) -> Bench {
        self.done(Command::SetLevel { level: LEVEL });
        self
    }

    /// The next entry with `command`, proposed by node 1 with a sequence number of its own.
    pub(super) fn entry(&mut self, command: Command) -> ApplyEntry {
        self.seq += 1;
        self.entry_as(node(1), 1, self.seq, command)
    }

    pub(super) fn entry_as(&mut self, node: NodeId, boot: u64, seq: u64, command: Command) -> ApplyEntry {
        self.index += 1;
        let now = 1_000_000 + self.index;
        let envelope = Envelope { node, boot, seq, now, actor: "test".into(), level: 1, command };
        ApplyEntry {
            index: self.index,
            log_id: Bytes::copy_from_slice(&self.index.to_be_bytes()),
            envelope: Some(envelope),
            membership: None,
        }
    }

    pub(super) fn apply_one(&self, entry: ApplyEntry) -> Applied {
        self.state.apply(&[entry]).unwrap().remove(0)
    }

    pub(super) fn run(&mut self, command: Command) -> Outcome {
        let entry = self.entry(command);
        self.apply_one(entry).outcome
    }

    /// As `run`, proposed by `node` under a sequence number that may be a retry's.
    pub(super) fn run_as(&mut self, node: NodeId, boot: u64, seq: u64, command: Command) -> Applied {
        let entry = self.entry_as(node, boot, seq, command);
        self.apply_one(entry)
    }

    /// A command that must succeed; the index that made it so.
    pub(super) fn done(&mut self, command: Command) -> u64 {
        let entry = self.entry(command.clone());
        let applied = self.apply_one(entry);
        assert_eq!(applied.outcome, Outcome::Done, "{command:?}");
        applied.index
    }

    pub(super) fn view(&self) -> View {
        self.state.view().unwrap()
    }

    /// Gives the partition of `digest` these owners; the index of the change.
    pub(super) fn own(&mut self, digest: &Digest, owners: &[u64]) -> u64 {
        let owners = owners.iter().map(|number| node(*number)).collect();
        let base = self.view().partitions_base().unwrap();
        self.done(Command::SetPartitions { owners: vec![(digest.partition(), owners)], base })
    }

    /// `PartitionReady` of one node in generation 1.
    pub(super) fn ready(&mut self, number: u64, partition: PartitionId, added_at: u64) -> Outcome {
        let partitions = vec![(partition, added_at)];
        self.run(Command::PartitionReady { node: node(number), generation: Generation(1), partitions })
    }
}
