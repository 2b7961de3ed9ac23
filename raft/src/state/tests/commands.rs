//! What each command does to the rows, and which it refuses.

use super::super::StateError;
use super::bench::{Bench, commit, held_by, manifest, member, node, put, put_if, repo, tag};
use crate::command::{Command, LEVEL, Outcome, Refusal, TagCondition};
use crate::digest::{Algorithm, Digest, PartitionId};
use crate::id::{ClusterId, Generation};
use crate::limits::TAG_HISTORY;
use crate::member::{Member, MemberState};
use crate::planted::Planted;

fn bench() -> Bench {
    Bench::born(Planted::NONE, 3, 3)
}

fn blob(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

fn refused(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        Outcome::Done => panic!("it was done"),
    }
}

#[test]
fn a_manifest_needs_its_blobs_linked_in_the_same_repository() {
    let mut bench = bench();
    let (a, b) = (blob("a"), blob("b"));
    bench.done(commit("one", a, held_by(&[1, 2])));
    bench.done(commit("other", b, held_by(&[1, 2])));
    let m = manifest("m", &[a, b], &[]);
    let missing = Refusal::BlobsUnknown { digests: vec![b] };
    assert_eq!(refused(bench.run(put("one", &m, &["t"]))), missing);
    assert_eq!(bench.view().tag(&repo("one"), &tag("t")).unwrap(), None);
    bench.done(Command::MountBlob { from: repo("other"), to: repo("one"), digest: b });
    let at = bench.done(put("one", &m, &["t"]));
    let view = bench.view();
    assert_eq!(view.tag(&repo("one"), &tag("t")).unwrap().unwrap().revision, at);
    assert_eq!(view.manifest(&repo("one"), &m.digest).unwrap().unwrap().index, at);
    assert_eq!(view.body(&m.digest).unwrap().unwrap(), m.bytes);
    assert!(view.in_use(&repo("one"), &a).unwrap());
    let repos: Vec<String> = view.repos_of(&b).unwrap().iter().map(|name| name.to_string()).collect();
    assert_eq!(repos, ["one", "other"]);
    let absent = Command::MountBlob { from: repo("nowhere"), to: repo("one"), digest: b };
    assert_eq!(refused(bench.run(absent)), Refusal::NotFound);
}

#[test]
fn an_index_needs_its_children_unless_it_is_sparse() {
    let mut bench = bench();
    let child = manifest("child", &[], &[]);
    let index = manifest("index", &[], &[child.digest]);
    let missing = Refusal::ManifestsUnknown { digests: vec![child.digest] };
    assert_eq!(refused(bench.run(put("r", &index, &[]))), missing);
    let Command::PutManifest { repo, manifest, tags, condition, .. } = put("sparse", &index, &[]) else {
        unreachable!()
    };
    bench.done(Command::PutManifest { repo, manifest, tags, condition, sparse: true });
    bench.done(put("r", &child, &[]));
    bench.done(put("r", &index, &["latest"]));
}

#[test]
fn pushing_again_changes_nothing_and_reports_what_made_it_so() {
    let mut bench = bench();
    let m = manifest("m", &[], &[]);
    let first = bench.done(put("r", &m, &["t"]));
    assert_eq!(bench.done(put("r", &m, &["t"])), first);
    assert_eq!(bench.done(put("r", &m, &[])), first);
    let row = bench.view().tag(&repo("r"), &tag("t")).unwrap().unwrap();
    assert_eq!((row.revision, row.history.len()), (first, 0));
    let second = bench.done(put("r", &m, &["u"]));
    assert!(second > first);
    // The same bytes as another media type are another reading of them.
    let mut retyped = m.clone();
    retyped.media_type = "application/vnd.docker.distribution.manifest.v2+json".into();
    let third = bench.done(put("r", &retyped, &[]));
    let row = bench.view().manifest(&repo("r"), &m.digest).unwrap().unwrap();
    assert_eq!((row.index, row.media_type), (third, retyped.media_type));
}

#[test]
fn tags_keep_a_bounded_history_and_honour_conditions() {
    let mut bench = bench();
    let all: Vec<_> = (0..15).map(|n| manifest(&n.to_string(), &[], &[])).collect();
    let set = |bench: &mut Bench, n: usize, condition| bench.run(put_if("r", &all[n], &["t"], condition));
    assert_eq!(
        refused(set(&mut bench, 0, Some(TagCondition::Is(all[1].digest)))),
        Refusal::ConditionFailed { current: None }
    );
    assert_eq!(set(&mut bench, 0, Some(TagCondition::Absent)), Outcome::Done);
    let taken = Refusal::ConditionFailed { current: Some(all[0].digest) };
    assert_eq!(refused(set(&mut bench, 1, Some(TagCondition::Absent))), taken);
    assert_eq!(bench.view().manifest(&repo("r"), &all[1].digest).unwrap(), None, "a refusal stores nothing");
    for n in 1..15 {
        assert_eq!(set(&mut bench, n, Some(TagCondition::Is(all[n - 1].digest))), Outcome::Done);
    }
    let row = bench.view().tag(&repo("r"), &tag("t")).unwrap().unwrap();
    assert_eq!(row.digest, all[14].digest);
    assert_eq!(row.history.len(), TAG_HISTORY);
    assert_eq!(row.history[0].digest, all[13].digest);
    assert!(row.history.windows(2).all(|pair| pair[0].revision > pair[1].revision));
    let wrong = Some(TagCondition::Is(all[0].digest));
    let delete = |condition| Command::DeleteTag { repo: repo("r"), tag: tag("t"), condition };
    assert!(matches!(refused(bench.run(delete(wrong))), Refusal::ConditionFailed { .. }));
    bench.done(delete(None));
    assert_eq!(refused(bench.run(delete(None))), Refusal::NotFound);
}

#[test]
fn deleting_a_manifest_takes_its_tags_edges_and_last_bytes() {
    let mut bench = bench();
    let a = blob("a");
    bench.done(commit("r", a, held_by(&[1, 2])));
    bench.done(commit("s", a, held_by(&[1, 2])));
    let subject = blob("some subject");
    let mut m = manifest("m", &[a], &[]);
    (m.subject, m.descriptor) = (Some(subject), Some("{}".into()));
    bench.done(put("r", &m, &["one", "two"]));
    bench.done(put("s", &m, &["three"]));
    assert_eq!(bench.view().referrer(&repo("r"), &subject, &m.digest).unwrap().unwrap(), "{}");
    let unlink = |name: &str| Command::DeleteLink { repo: repo(name), digest: a };
    assert_eq!(refused(bench.run(unlink("r"))), Refusal::InUse);
    bench.done(Command::Tick { elapsed: 500 });
    bench.done(Command::DeleteManifest { repo: repo("r"), digest: m.digest });
    let view = bench.view();
    assert!(view.tags(&repo("r"), None, 10).unwrap().is_empty());
    let mut still = |_, _: &[u8]| panic!("it still refers to its subject");
    view.referrers(&repo("r"), &subject, None, &mut still).unwrap();
    assert!(view.body(&m.digest).unwrap().is_some(), "the other repository has it");
    assert_eq!(view.link(&repo("r"), &a).unwrap().unwrap().wanted_at, 500, "its grace starts anew");
    bench.done(unlink("r"));
    assert_eq!(bench.view().link(&repo("r"), &a).unwrap(), None);
    bench.done(Command::DeleteManifest { repo: repo("s"), digest: m.digest });
    assert_eq!(bench.view().body(&m.digest).unwrap(), None);
    let again = Command::DeleteManifest { repo: repo("s"), digest: m.digest };
    assert_eq!(refused(bench.run(again)), Refusal::NotFound);
}

#[test]
fn reclaim_takes_only_what_is_still_unused_and_old() {
    let mut bench = bench();
    let (used, wanted, old) = (blob("used"), blob("wanted"), blob("old"));
    for one in [used, wanted, old] {
        bench.done(commit("r", one, held_by(&[1, 2])));
    }
    bench.done(put("r", &manifest("m", &[used], &[]), &[]));
    bench.done(Command::Tick { elapsed: 1000 });
    bench.done(Command::WantLinks { links: vec![(repo("r"), wanted)] });
    let links = [used, wanted, old].map(|one| (repo("r"), one)).to_vec();
    let blobs = vec![used, wanted, old];
    let reclaim = |before| Command::Reclaim { links: links.clone(), blobs: blobs.clone(), before };
    bench.done(reclaim(1000));
    let view = bench.view();
    assert!(view.link(&repo("r"), &used).unwrap().is_some());
    assert!(view.link(&repo("r"), &wanted).unwrap().is_some());
    assert!(view.link(&repo("r"), &old).unwrap().is_none());
    let row = view.blob(&old).unwrap().unwrap();
    assert_eq!(row.unlinked_since, Some(1000), "the blob has a grace of its own");
    // Pushed again in time, it stays; left alone, it goes.
    bench.done(commit("r", old, held_by(&[2, 3])));
    bench.done(reclaim(u64::MAX));
    assert_eq!(bench.view().blob(&old).unwrap().unwrap().unlinked_since, None);
    bench.done(Command::Tick { elapsed: 10 });
    bench.done(reclaim(1005));
    assert_eq!(bench.view().blob(&old).unwrap().unwrap().unlinked_since, Some(1010));
    bench.done(Command::Tick { elapsed: 10 });
    bench.done(reclaim(1015));
    let view = bench.view();
    assert_eq!(view.blob(&old).unwrap(), None);
    assert_eq!(view.blob(&wanted).unwrap(), None, "wanted once, its grace is over too");
    assert_eq!(view.blob_totals().unwrap(), (1, 100));
}

#[test]
fn a_lost_blob_is_absent_until_somebody_has_it() {
    let mut bench = bench();
    let a = blob("a");
    let committed = bench.done(commit("r", a, held_by(&[1, 2])));
    let lost = |seen| Command::SetLost { digests: vec![a], seen };
    bench.done(lost(committed - 1));
    assert_eq!(bench.view().lost_count().unwrap(), 0, "it was pushed while they were asked");
    bench.done(lost(committed));
    assert_eq!(bench.view().lost_count().unwrap(), 1);
    let m = manifest("m", &[a], &[]);
    assert_eq!(refused(bench.run(put("r", &m, &[]))), Refusal::BlobsUnknown { digests: vec![a] });
    let mount = Command::MountBlob { from: repo("r"), to: repo("s"), digest: a };
    assert_eq!(refused(bench.run(mount)), Refusal::NotFound);
    bench.done(Command::SettleBlobs { blobs: vec![(a, held_by(&[3]))] });
    assert_eq!(bench.view().lost_count().unwrap(), 0);
    bench.done(put("r", &m, &[]));
}

#[test]
fn a_blob_has_one_size() {
    let mut bench = bench();
    let a = blob("a");
    bench.done(commit("r", a, held_by(&[1, 2])));
    let other = Command::CommitBlob { repo: repo("r"), digest: a, size: 101, evidence: held_by(&[1, 2]) };
    assert_eq!(refused(bench.run(other)), Refusal::SizeDiffers { known: 100 });
    let nobody = Command::SettleBlobs { blobs: vec![(a, held_by(&[9]))] };
    assert_eq!(refused(bench.run(nobody)), Refusal::StaleEvidence { needed: 2 });
}

#[test]
fn members_live_through_their_states() {
    let mut bench = bench();
    let state = |number, state| Command::SetMemberState { node: node(number), state };
    let mut fourth = member(4);
    fourth.name = "n1".into();
    let taken = Refusal::NameTaken { by: node(1) };
    assert_eq!(refused(bench.run(Command::ChangeMember { member: fourth.clone() })), taken);
    fourth.name = "n4".into();
    fourth.state = MemberState::Active;
    bench.done(Command::ChangeMember { member: fourth.clone() });
    assert_eq!(bench.view().member(node(4)).unwrap().unwrap().state, MemberState::Joining);
    assert_eq!(bench.view().write_quorum().unwrap(), 2, "a joining member does not count");
    let x = blob("x");
    assert!(matches!(refused(bench.run(commit("r", x, held_by(&[1, 4])))), Refusal::StaleEvidence { .. }));
    assert_eq!(refused(bench.run(state(4, MemberState::Retired))), Refusal::Invalid);
    bench.done(state(4, MemberState::Active));
    bench.done(state(4, MemberState::Retired));
    bench.done(state(4, MemberState::Active));
    bench.done(commit("r", x, held_by(&[1, 4])));
    fourth.client = "10.0.0.4:5000".into();
    fourth.generation = Generation(9);
    bench.done(Command::ChangeMember { member: fourth });
    let row = bench.view().member(node(4)).unwrap().unwrap();
    assert_eq!((row.client.as_str(), row.generation), ("10.0.0.4:5000", Generation(1)));
    bench.done(state(4, MemberState::Draining));
    assert_eq!(refused(bench.run(state(4, MemberState::Active))), Refusal::Invalid);
    assert_eq!(refused(bench.run(state(9, MemberState::Active))), Refusal::UnknownMember);
}

#[test]
fn a_removed_member_is_nowhere_and_stays_removed() {
    let mut bench = Bench::born(Planted::NONE, 4, 3);
    let x = blob("x");
    bench.own(&x, &[1, 2, 4]);
    let y = Digest::new(Algorithm::Sha256, &[&x.as_bytes()[..31], &[x.as_bytes()[31] ^ 1]].concat()).unwrap();
    bench.done(commit("r", x, held_by(&[3, 4])));
    let base = bench.own(&y, &[1, 2, 3]);
    bench.done(commit("r", y, held_by(&[3, 4])));
    assert_eq!(bench.view().blob(&y).unwrap().unwrap().away, [node(4)]);
    let from_four = bench.run_as(node(4), 1, 1, Command::Tick { elapsed: 1 });
    assert_eq!(from_four.outcome, Outcome::Done);
    let removed_at = bench.done(Command::RemoveMember { node: node(4) });
    let view = bench.view();
    let row = view.partition(x.partition()).unwrap();
    assert!(!row.owned_by(node(4)) && !row.sources.contains(&node(4)));
    assert_eq!(view.blob(&x).unwrap().unwrap().away, [node(3)]);
    assert!(view.blob(&y).unwrap().unwrap().away.is_empty());
    assert!(view.away_on(node(4), None, 10).unwrap().is_empty());
    assert!(view.removed(node(4)).unwrap() && view.member(node(4)).unwrap().is_none());
    assert_eq!(view.partitions_base().unwrap(), base, "it was a source only");
    assert!(removed_at > base);
    let late = bench.run_as(node(4), 1, 2, Command::Tick { elapsed: 1 });
    assert_eq!(late.outcome, Outcome::Refused(Refusal::Removed));
    assert_eq!(refused(bench.run(Command::ChangeMember { member: member(4) })), Refusal::Removed);
    bench.done(Command::RemoveMember { node: node(4) });
    // An owner that goes makes the others verify again.
    let added_at = bench.own(&x, &[1, 2]);
    bench.ready(1, x.partition(), added_at);
    let gone_at = bench.done(Command::RemoveMember { node: node(2) });
    let row = bench.view().partition(x.partition()).unwrap();
    assert_eq!(row.owners.len(), 1);
    assert_eq!((row.owners[0].ready, row.owners[0].added_at), (false, gone_at));
    assert_eq!(bench.view().partitions_base().unwrap(), gone_at);
}

#[test]
fn placement_changes_only_from_what_it_was_planned_on() {
    let mut bench = bench();
    let x = blob("x");
    let base = bench.own(&x, &[1, 2, 3]);
    let set = |owners: &[u64], base| Command::SetPartitions {
        owners: vec![(x.partition(), owners.iter().map(|number| node(*number)).collect())],
        base,
    };
    assert_eq!(refused(bench.run(set(&[1, 2], base - 1))), Refusal::StaleBase);
    assert_eq!(refused(bench.run(set(&[1, 1], base))), Refusal::Invalid);
    assert_eq!(refused(bench.run(set(&[], base))), Refusal::Invalid);
    assert_eq!(refused(bench.run(set(&[1, 9], base))), Refusal::UnknownMember);
    bench.done(Command::SetMemberState { node: node(3), state: MemberState::Retired });
    assert_eq!(refused(bench.run(set(&[1, 3], base))), Refusal::UnknownMember);
    bench.ready(1, x.partition(), base);
    // The same owners in another order are no change.
    bench.done(set(&[2, 1], base));
    let row = bench.view().partition(x.partition()).unwrap();
    assert_eq!(row.sources, [node(3)]);
    let base = bench.view().partitions_base().unwrap();
    bench.ready(1, x.partition(), base);
    bench.done(set(&[1, 2], base));
    assert!(bench.view().partition(x.partition()).unwrap().owners.iter().any(|owner| owner.ready));
    // Ready in an older generation says nothing.
    bench.done(Command::FenceStore { node: node(2), generation: Generation(2) });
    assert!(matches!(refused(bench.ready(2, x.partition(), base)), Refusal::StaleEvidence { .. }));
    assert_eq!(refused(bench.ready(1, PartitionId::new(0).unwrap(), base)), Refusal::StaleBase);
}

#[test]
fn a_cluster_is_born_once_and_its_level_only_rises() {
    let mut bench = bench();
    let known = ClusterId(7);
    let birth = |cluster| Command::Birth { cluster, rf: 5, level: 1 };
    bench.done(birth(known));
    assert_eq!(refused(bench.run(birth(ClusterId(8)))), Refusal::AlreadyBorn { cluster: known });
    let view = bench.view();
    assert_eq!((view.cluster().unwrap(), view.rf().unwrap(), view.level().unwrap()), (Some(known), 3, 1));
    bench.done(Command::SetRf { rf: 1 });
    assert_eq!(bench.view().write_quorum().unwrap(), 1);
    assert_eq!(refused(bench.run(Command::SetRf { rf: 0 })), Refusal::Invalid);
    assert_eq!(refused(bench.run(Command::SetLevel { level: 0 })), Refusal::Invalid);
    let mut old = member(8);
    old.max_level = 0;
    assert_eq!(refused(bench.run(Command::ChangeMember { member: old })), Refusal::LevelUnsupported);
    // What no member supports is refused by every build alike; what all others do ends this one.
    let level = LEVEL + 1;
    assert_eq!(refused(bench.run(Command::SetLevel { level })), Refusal::LevelUnsupported);
    let born = Command::Birth { cluster: ClusterId(8), rf: 3, level };
    assert_eq!(refused(bench.run(born)), Refusal::AlreadyBorn { cluster: known });
    for member in bench.view().members().unwrap() {
        bench.done(Command::ChangeMember { member: Member { max_level: level, ..member } });
    }
    let above = bench.entry(Command::SetLevel { level });
    let ends = bench.state.apply(&[above]).unwrap_err();
    assert!(matches!(ends, StateError::Level { level: found } if found == level) && ends.is_too_old());
}

#[test]
fn a_command_of_the_cache_waits_for_its_level() {
    let mut bench = bench();
    let m = manifest("m", &[blob("a")], &[]);
    let put = Command::PutCached { repo: repo("f/h/a"), manifest: m, tag: None };
    assert_eq!(refused(bench.run(put.clone())), Refusal::LevelUnsupported);
    bench.done(Command::SetLevel { level: 2 });
    bench.done(put);
}

#[cfg(feature = "next-level")]
#[test]
fn a_command_above_the_level_is_refused_whatever_it_says_of_itself() {
    let mut bench = bench();
    assert_eq!(refused(bench.run(Command::Probe)), Refusal::LevelUnsupported);
    for member in bench.view().members().unwrap() {
        bench.done(Command::ChangeMember { member: Member { max_level: LEVEL, ..member } });
    }
    assert_eq!(refused(bench.run(Command::Probe)), Refusal::LevelUnsupported);
    bench.done(Command::SetLevel { level: LEVEL });
    bench.done(Command::Probe);
}

#[test]
fn lists_are_paged_in_byte_order() {
    let mut bench = bench();
    let m = manifest("m", &[], &[]);
    for name in ["a/b", "a-b", "a", "b", "a/b/c"] {
        bench.done(put(name, &m, &["B", "a", "1", "b.c", "b"]));
    }
    let view = bench.view();
    let names = |list: Vec<crate::name::RepoName>| list.iter().map(|one| one.to_string()).collect::<Vec<_>>();
    assert_eq!(names(view.repos(None, 10).unwrap()), ["a", "a-b", "a/b", "a/b/c", "b"]);
    assert_eq!(names(view.repos(Some("a-b"), 2).unwrap()), ["a/b", "a/b/c"]);
    assert_eq!(names(view.repos(Some("aa"), 9).unwrap()), ["b"]);
    let tags = |after, n| {
        let found = view.tags(&repo("a"), after, n).unwrap();
        found.iter().map(|one| one.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(tags(None, 10), ["1", "B", "a", "b", "b.c"]);
    assert_eq!(tags(Some("B"), 2), ["a", "b"]);
    assert_eq!(tags(Some("Z"), 9), ["a", "b", "b.c"]);
    assert!(tags(None, 0).is_empty());
    assert!(view.repo_exists(&repo("a/b")).unwrap() && !view.repo_exists(&repo("a/c")).unwrap());
}

#[test]
fn blobs_are_found_by_partition_in_pages() {
    let mut bench = bench();
    let mut expected = Vec::new();
    for n in 0..40u8 {
        let mut bytes = [n; 64];
        (bytes[0], bytes[1]) = (0xff, 0xc0 | (n & 0x3f));
        let algorithm = if n % 2 == 0 { Algorithm::Sha256 } else { Algorithm::Sha512 };
        let digest = Digest::new(algorithm, &bytes[..algorithm.size()]).unwrap();
        expected.push(digest);
        bench.done(commit("r", digest, held_by(&[1, 2])));
    }
    bench.done(commit("r", Digest::new(Algorithm::Sha256, &[0; 32]).unwrap(), held_by(&[1, 2])));
    expected.sort();
    let last = PartitionId::new(1023).unwrap();
    let view = bench.view();
    for page in [1, 3, 7, 100] {
        let mut found: Vec<Digest> = Vec::new();
        loop {
            let next = view.blobs_in(last, found.last().copied(), page).unwrap();
            if next.is_empty() {
                break;
            }
            assert!(next.len() <= page);
            found.extend(next.iter().map(|(digest, _)| *digest));
        }
        assert_eq!(found, expected, "pages of {page}");
    }
    assert_eq!(view.blobs_in(PartitionId::new(0).unwrap(), None, 10).unwrap().len(), 1);
    assert!(view.blobs_in(PartitionId::new(5).unwrap(), None, 10).unwrap().is_empty());
}
