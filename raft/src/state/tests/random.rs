//! Random commands against what must hold of every state.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::super::hash;
use super::super::key::{self, Table, meta};
use super::super::row::{self, BlobRow, LinkRow, ManifestRow, Row as _, TagRow, VerdictRow};
use super::super::rows::Rows as _;
use super::super::{ApplyEntry, View};
use super::bench::{Bench, held_by, manifest, member, node, repo, tag};
use super::file::rows;
use crate::command::{Command, NewManifest, TagCondition};
use crate::digest::Digest;
use crate::id::Generation;
use crate::member::{Evidence, MemberState};
use crate::name::{Reference, RepoName};
use crate::planted::Planted;

fn blob(n: u8) -> Digest {
    // Two partitions, so that placement and blobs meet.
    let mut bytes = [n; 32];
    (bytes[0], bytes[1]) = (n % 2, 0);
    Digest::new(crate::digest::Algorithm::Sha256, &bytes).unwrap()
}

fn some_manifest(n: u8) -> NewManifest {
    let mut one = match n % 5 {
        0 => manifest("0", &[blob(0), blob(1)], &[]),
        1 => manifest("1", &[blob(1), blob(2)], &[]),
        2 => manifest("2", &[blob(3)], &[]),
        3 => manifest("3", &[], &[some_manifest(0).digest, some_manifest(1).digest]),
        _ => manifest("4", &[blob(0)], &[]),
    };
    if n % 5 == 4 {
        (one.subject, one.descriptor) = (Some(some_manifest(0).digest), Some(Bytes::from_static(b"{}")));
    }
    one
}

/// The same bytes as a reader that understands them in another way tells of them: another type, other
/// edges, some of them twice or to itself.
fn read_as(n: u8, how: u8) -> NewManifest {
    let mut one = some_manifest(n);
    match how % 6 {
        0..3 => {}
        3 => one.media_type = "another".to_owned(),
        4 => {
            one.media_type = "with the same twice".to_owned();
            one.blobs = vec![blob(1), blob(1), blob(2)];
            one.subject = None;
        }
        _ => {
            one.media_type = "of itself".to_owned();
            one.children = vec![one.digest, one.digest];
            (one.subject, one.descriptor) = (Some(one.digest), Some(Bytes::from_static(b"{}")));
        }
    }
    one
}

fn name() -> impl Strategy<Value = RepoName> {
    prop::sample::select(vec!["a", "a/b", "a-b", "f/h/a"]).prop_map(repo)
}

fn cached_name() -> impl Strategy<Value = RepoName> {
    prop::sample::select(vec!["f/h/a", "f/h/a", "f/h/a/b", "a"]).prop_map(repo)
}

fn pins() -> impl Strategy<Value = Vec<(RepoName, Reference)>> {
    let reference = prop_oneof![
        prop::sample::select(vec!["x", "y"]).prop_map(|name| Reference::Tag(tag(name))),
        (0..5u8).prop_map(|n| Reference::Digest(some_manifest(n).digest)),
    ];
    prop::collection::vec((prop::sample::select(vec!["f/h/a", "f/h/a/b"]).prop_map(repo), reference), 0..4)
}

/// What only upstream registries' repositories have. A seen revision of 1 stands for the current one.
fn cached() -> impl Strategy<Value = Command> {
    let seen = || (prop::sample::select(vec!["x", "y"]).prop_map(tag), 0..3u64);
    prop_oneof![
        5 => (cached_name(), (0..5u8, 0..6u8), prop::option::of(seen()))
            .prop_map(|(repo, (n, how), tag)| Command::PutCached { repo, manifest: read_as(n, how), tag }),
        3 => (cached_name(), 0..5u8, seen()).prop_map(|(repo, n, (tag, seen))| {
            Command::TagCached { repo, digest: some_manifest(n).digest, tag, seen }
        }),
        1 => (cached_name(), prop::collection::vec((0..5u8).prop_map(|n| some_manifest(n).digest), 0..3))
            .prop_map(|(repo, digests)| Command::DropCached { repo, digests }),
        1 => (cached_name(), 0..5u8).prop_map(|(repo, n)| {
            Command::WantCached { manifests: vec![(repo, some_manifest(n).digest)] }
        }),
        2 => (prop::collection::vec((cached_name(), 0..5u8), 1..6), 0..60u64).prop_map(|(names, before)| {
            let manifests = names.into_iter().map(|(repo, n)| (repo, some_manifest(n).digest)).collect();
            Command::ReclaimCached { manifests, before }
        }),
        1 => (pins(), pins()).prop_map(|(add, remove)| Command::SetPins { add, remove }),
    ]
}

/// What admission needs. A base of 1 stands for the current one, a verdict's revision too.
fn admission() -> impl Strategy<Value = Command> {
    let signers = || prop::collection::vec(prop::sample::select(vec!["k", "l", "m"]), 0..3);
    let text = || prop::collection::vec(any::<u8>(), 0..3).prop_map(Bytes::from);
    prop_oneof![
        1 => (prop::option::of(0..3u64), text())
            .prop_map(|(base, document)| Command::SetPolicy { base, document }),
        4 => ((0..5u8).prop_map(blob), 0..6u64, signers()).prop_map(|(digest, revision, names)| {
            let signed_by = names.into_iter().map(str::to_owned).collect();
            Command::PutVerdict { digest, revision: revision.min(1), signed_by }
        }),
        2 => (prop::sample::select(vec!["s", "t", ""]), 0..3u64, text()).prop_map(|(name, base, ciphertext)| {
            Command::PutSealed { name: name.to_owned(), base, ciphertext }
        }),
    ]
}

fn evidence() -> impl Strategy<Value = Vec<Evidence>> {
    let one = (1..6u64, 1..4u64)
        .prop_map(|(number, generation)| Evidence { node: node(number), generation: Generation(generation) });
    prop_oneof![2 => Just(held_by(&[1, 2])), 1 => Just(held_by(&[2, 3, 4])), 2 => prop::collection::vec(one, 0..4)]
}

fn blobs() -> impl Strategy<Value = Vec<Digest>> {
    prop::collection::vec((0..5u8).prop_map(blob), 1..3)
}

fn links() -> impl Strategy<Value = Vec<(RepoName, Digest)>> {
    prop::collection::vec((name(), (0..5u8).prop_map(blob)), 1..4)
}

fn condition() -> impl Strategy<Value = Option<TagCondition>> {
    prop_oneof![
        4 => Just(None),
        1 => Just(Some(TagCondition::Absent)),
        1 => (0..5u8).prop_map(|n| Some(TagCondition::Is(some_manifest(n).digest))),
    ]
}

fn metadata() -> impl Strategy<Value = Command> {
    let one = || (0..5u8).prop_map(blob);
    let known = || (0..5u8).prop_map(|n| some_manifest(n).digest);
    let tags = || prop::collection::vec(prop::sample::select(vec!["x", "y"]).prop_map(tag), 0..3);
    prop_oneof![
        4 => (name(), one(), evidence())
            .prop_map(|(repo, digest, evidence)| Command::CommitBlob { repo, digest, size: 9, evidence }),
        1 => (name(), name(), one()).prop_map(|(from, to, digest)| Command::MountBlob { from, to, digest }),
        1 => links().prop_map(|links| Command::WantLinks { links }),
        1 => (name(), one()).prop_map(|(repo, digest)| Command::DeleteLink { repo, digest }),
        6 => (name(), (0..5u8, 0..6u8), tags(), condition(), any::<bool>()).prop_map(
            |(repo, (n, how), tags, condition, sparse)| {
                Command::PutManifest { repo, manifest: read_as(n, how), tags, condition, sparse }
            }
        ),
        1 => (name(), known()).prop_map(|(repo, digest)| Command::DeleteManifest { repo, digest }),
        1 => (name(), condition())
            .prop_map(|(repo, condition)| Command::DeleteTag { repo, tag: tag("x"), condition }),
        1 => (links(), blobs(), 0..50u64)
            .prop_map(|(links, blobs, before)| Command::Reclaim { links, blobs, before }),
        1 => (0..9u64).prop_map(|elapsed| Command::Tick { elapsed }),
        1 => (blobs(), 0..60u64).prop_map(|(digests, seen)| Command::SetLost { digests, seen }),
        1 => (blobs(), evidence()).prop_map(|(digests, evidence)| {
            let blobs = digests.into_iter().map(|digest| (digest, evidence.clone())).collect();
            Command::SettleBlobs { blobs }
        }),
    ]
}

fn cluster() -> impl Strategy<Value = Command> {
    let states = vec![MemberState::Active, MemberState::Retired, MemberState::Draining];
    let owners = prop::collection::btree_set((1..6u64).prop_map(node), 1..4);
    prop_oneof![
        (1..6u64).prop_map(|number| Command::ChangeMember { member: member(number) }),
        (1..6u64, prop::sample::select(states))
            .prop_map(|(number, state)| Command::SetMemberState { node: node(number), state }),
        (2..7u64).prop_map(|number| Command::RemoveMember { node: node(number) }),
        (1..6u64, 1..4u64).prop_map(|(number, generation)| Command::FenceStore {
            node: node(number),
            generation: Generation(generation)
        }),
        // The base is filled in when it is applied; 0 stands for "the current one".
        (0..2u8, owners).prop_map(|(n, owners)| Command::SetPartitions {
            owners: vec![(blob(n).partition(), owners.into_iter().collect())],
            base: 0
        }),
        (1..6u64, 0..2u8).prop_map(|(number, n)| Command::PartitionReady {
            node: node(number),
            generation: Generation(1),
            partitions: vec![(blob(n).partition(), 0)]
        }),
        (1..4u32).prop_map(|rf| Command::SetRf { rf }),
    ]
}

/// Puts the index of the last change where commands need it.
fn aim(command: Command, view: &View) -> Command {
    match command {
        Command::SetPartitions { owners, .. } => {
            Command::SetPartitions { owners, base: view.partitions_base().unwrap() }
        }
        Command::PartitionReady { node, generation, mut partitions } => {
            for (id, added_at) in &mut partitions {
                *added_at = view.partition(*id).unwrap().owners.first().map_or(0, |owner| owner.added_at);
            }
            Command::PartitionReady { node, generation, partitions }
        }
        Command::PutCached { repo, manifest, tag: Some((tag, 1)) } => {
            let seen = view.tag(&repo, &tag).unwrap().map_or(0, |row| row.revision);
            Command::PutCached { repo, manifest, tag: Some((tag, seen)) }
        }
        Command::TagCached { repo, digest, tag, seen: 1 } => {
            let seen = view.tag(&repo, &tag).unwrap().map_or(0, |row| row.revision);
            Command::TagCached { repo, digest, tag, seen }
        }
        Command::SetPolicy { base: Some(1), document } => {
            Command::SetPolicy { base: Some(view.policy_revision().unwrap().unwrap_or(0)), document }
        }
        Command::PutVerdict { digest, revision: 1, signed_by } => {
            let revision = view.policy_revision().unwrap().unwrap_or(0);
            Command::PutVerdict { digest, revision, signed_by }
        }
        Command::PutSealed { name, base: 1, ciphertext } => {
            let base = view.sealed(&name).unwrap().map_or(0, |row| row.index);
            Command::PutSealed { name, base, ciphertext }
        }
        other => other,
    }
}

/// What must hold of every state.
fn check(view: &View, hash_now: u64) {
    let all = rows(view);
    let of = |wanted: Table| all.iter().filter(move |(table, _, _)| *table == wanted);
    let keys = |table| of(table).map(|(_, key, _)| key.clone()).collect::<BTreeSet<_>>();

    let agreed = all.iter().filter(|(table, _, _)| table.is_agreed());
    let sum = agreed.map(|(table, key, value)| hash::of_row(*table, key, value));
    assert_eq!(sum.fold(0, u64::wrapping_add), hash_now, "the hash follows the rows");

    let blobs: BTreeMap<Digest, BlobRow> = of(Table::Blob)
        .map(|(_, key, value)| (key::split_digest(key).unwrap().0, BlobRow::decode(value).unwrap()))
        .collect();
    let count = |what: fn(&BlobRow) -> u64| blobs.values().map(what).sum::<u64>();
    assert_eq!(view.blob_totals().unwrap(), (count(|_| 1), count(|row| row.size)));
    assert_eq!(view.away_count().unwrap(), count(|row| u64::from(!row.away.is_empty())));
    assert_eq!(view.lost_count().unwrap(), count(|row| u64::from(row.lost)));
    let away = blobs.iter().flat_map(|(digest, row)| row.away.iter().map(|node| key::away(*node, digest)));
    assert_eq!(away.collect::<BTreeSet<_>>(), keys(Table::Away));

    let mut linked_in = BTreeSet::new();
    for (_, key, value) in of(Table::Link) {
        let (name, rest) = key::split_repo(key).unwrap();
        let (digest, _) = key::split_digest(rest).unwrap();
        assert!(blobs.contains_key(&digest), "a link without its blob");
        assert!(LinkRow::decode(value).is_some());
        assert!(!name.is_cached(), "a link in an upstream's repository");
        linked_in.insert(key::digest_repo(&digest, &name));
    }
    assert_eq!(linked_in, keys(Table::LinkedIn));
    for (digest, row) in &blobs {
        let linked = !view.repos_of(digest).unwrap().is_empty();
        assert_eq!(linked, row.unlinked_since.is_none(), "{digest}: {row:?}");
    }

    let (mut uses, mut children, mut referrers) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let (mut bodies, mut body_in) = (BTreeSet::new(), BTreeSet::new());
    for (_, key, value) in of(Table::Manifest) {
        let (name, rest) = key::split_repo(key).unwrap();
        let (digest, _) = key::split_digest(rest).unwrap();
        let row = ManifestRow::decode(value).unwrap();
        uses.extend(row.blobs.iter().map(|blob| key::edge(&name, blob, &digest)));
        children.extend(row.children.iter().map(|child| key::edge(&name, child, &digest)));
        referrers.extend(row.subject.iter().map(|subject| key::edge(&name, subject, &digest)));
        bodies.insert(key::digest(&digest));
        body_in.insert(key::digest_repo(&digest, &name));
    }
    assert_eq!(uses, keys(Table::Use));
    assert_eq!(children, keys(Table::Child));
    assert_eq!(referrers, keys(Table::Referrer));
    assert_eq!(bodies, keys(Table::Body));
    assert_eq!(body_in, keys(Table::BodyIn));

    let of_upstreams = of(Table::Manifest).map(|(_, key, _)| key.clone());
    let of_upstreams = of_upstreams.filter(|key| key::split_repo(key).unwrap().0.is_cached());
    assert_eq!(of_upstreams.collect::<BTreeSet<_>>(), keys(Table::Cached));
    assert_eq!(view.cached("f/", None, 100).unwrap().len(), keys(Table::Cached).len());
    let weights = of(Table::Cached).map(|(_, at, _)| {
        let row = of(Table::Manifest).find(|(_, key, _)| key == at).map(|(_, _, value)| value);
        let tags = of(Table::TagOf).filter(|(_, key, _)| key.starts_with(at)).count() as u64;
        ManifestRow::decode(row.unwrap()).unwrap().weight() + row::TAG * tags
    });
    assert_eq!(weights.sum::<u64>(), view.cached_bytes().unwrap());
    assert_eq!(view.pins().unwrap().len() as u64, view.pin_count().unwrap());
    for (name, digest) in view.pinned().unwrap() {
        assert!(view.manifest(&name, &digest).unwrap().is_some(), "a pin keeps what is not there");
    }

    let policy = view.policy().unwrap().map(|row| key::index(row.revision).to_vec());
    assert_eq!(policy.into_iter().collect::<BTreeSet<_>>(), keys(Table::Policy));
    let by_age = of(Table::Verdict).map(|(_, key, value)| {
        let row = VerdictRow::decode(value).unwrap();
        assert!(row.index > view.policy_revision().unwrap().unwrap(), "a verdict of an earlier policy");
        assert!(!row.signed_by.is_empty() && row.signed_by.is_sorted());
        (key::index(row.index).to_vec(), key.clone())
    });
    let by_age: BTreeSet<_> = by_age.collect();
    assert_eq!(by_age, of(Table::VerdictAt).map(|(_, key, value)| (key.clone(), value.clone())).collect());
    let counted = view.rows().number(Table::Meta, meta::VERDICTS).unwrap();
    assert_eq!(counted, keys(Table::Verdict).len() as u64);

    let mut tag_of = BTreeSet::new();
    for (_, key, value) in of(Table::Tag) {
        let (name, rest) = key::split_repo(key).unwrap();
        let row = TagRow::decode(value).unwrap();
        assert!(view.manifest(&name, &row.digest).unwrap().is_some(), "a tag points to nothing");
        tag_of.insert(key::tag_of(&name, &row.digest, &std::str::from_utf8(rest).unwrap().parse().unwrap()));
    }
    assert_eq!(tag_of, keys(Table::TagOf));

    let members: BTreeSet<_> = view.members().unwrap().into_iter().map(|one| one.id).collect();
    for partition in view.partitions().unwrap() {
        let owners: BTreeSet<_> = partition.owners.iter().map(|owner| owner.node).collect();
        assert!(owners.is_subset(&members) && partition.sources.iter().all(|node| members.contains(node)));
        assert!(partition.sources.iter().all(|node| !owners.contains(node)));
        let settled = partition.is_ready() && !partition.owners.is_empty();
        assert!(!settled || partition.sources.is_empty());
    }
    for row in blobs.values() {
        assert!(row.away.iter().all(|node| members.contains(node)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_invariants_and_replicas_agree(
        commands in prop::collection::vec(
            prop_oneof![4 => metadata(), 2 => cached(), 1 => cluster(), 2 => admission()], 1..60),
        sizes in prop::collection::vec(1..9usize, 60),
    ) {
        let mut bench = Bench::born(Planted::NONE, 5, 3).raised();
        let born = bench.index;
        let mut replica = Bench::born(Planted::NONE, 5, 3).raised();
        let mut entries: Vec<ApplyEntry> = Vec::new();
        let mut outcomes = Vec::new();
        for command in commands {
            let command = aim(command, &bench.view());
            let entry = bench.entry(command);
            entries.push(entry.clone());
            outcomes.push(bench.apply_one(entry));
            let view = bench.view();
            check(&view, view.rows().number(Table::Consensus, meta::HASH).unwrap());
        }
        // Another node applies the same entries in other batches, and writes checkpoints meanwhile.
        let mut rest = entries.as_slice();
        let mut again = Vec::new();
        let mut frozen: Option<(View, Vec<_>)> = None;
        for size in sizes {
            let (batch, later) = rest.split_at(size.min(rest.len()));
            again.extend(replica.state.apply(batch).unwrap());
            rest = later;
            let now = replica.view();
            let seen = rows(&now);
            match frozen.take() {
                None if size % 2 == 0 => {
                    replica.state.freeze();
                    prop_assert!(rows(&replica.view()) == seen, "a checkpoint that begins changes nothing");
                    frozen = Some((now, seen));
                }
                Some((then, before)) if size % 3 == 0 => {
                    let saved = replica.state.save().unwrap();
                    prop_assert!(rows(&saved) == before, "the checkpoint has what was frozen");
                    check(&saved, saved.rows().number(Table::Consensus, meta::HASH).unwrap());
                    prop_assert!(rows(&then) == before, "a view does not change");
                    prop_assert!(rows(&now) == seen && rows(&replica.view()) == seen, "nor what came later");
                }
                other => frozen = other,
            }
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!(outcomes, again);
        prop_assert!(rows(&bench.view()) == rows(&replica.view()));
        let (_, at) = bench.view().state_hash().unwrap();
        prop_assert_eq!(at, (born + entries.len() as u64) / 16 * 16);
        replica.index = bench.index;
    }
}
