//! The verdict of clusters of each kind.

use super::shown;
use crate::admin::document::{
    BlobsDocument, DiskDocument, MemberDocument, PartitionsDocument, StatusDocument,
};

fn member(name: &str) -> MemberDocument {
    MemberDocument {
        id: "00000000000000a1".into(),
        name: name.into(),
        zone: String::new(),
        role: "voter".into(),
        state: "up".into(),
        client: Some("127.0.0.1:5000".into()),
        peer: Some("127.0.0.1:5001".into()),
        applied: Some(90),
        max_level: 1,
        last_seen_ms: Some(0),
        repair_in_ms: None,
        disk: Some(DiskDocument { total: 100 << 30, free: 50 << 30, blobs: 1 << 30 }),
        uploads: None,
    }
}

fn down(name: &str, silent: u64, repair: Option<u64>) -> MemberDocument {
    let gone = MemberDocument { state: "down".into(), applied: None, disk: None, ..member(name) };
    MemberDocument { last_seen_ms: Some(silent), repair_in_ms: repair, ..gone }
}

fn status(members: Vec<MemberDocument>) -> StatusDocument {
    StatusDocument {
        cluster_id: Some("00000000000000c1".into()),
        quorum: true,
        stale: false,
        leader: Some("n1".into()),
        term: 3,
        level: 1,
        rf: 3,
        applied: 90,
        state_hash: "0".into(),
        state_hash_at: 80,
        members,
        partitions: PartitionsDocument { total: 1024, ready: 1024, moving: 0 },
        blobs: BlobsDocument { durable: 9, bytes: 1, under_replicated: 0, away: 0, lost: 0, cached: 0 },
        policy_revision: None,
    }
}

#[test]
fn the_policy_in_force_is_named() {
    let alone = status(vec![member("n1")]);
    assert!(shown(&alone).ends_with("\npolicy      no policy is set: every image is allowed"));
    let set = StatusDocument { policy_revision: Some(12), ..alone };
    assert!(shown(&set).ends_with("\npolicy      revision 12"));
}

/// The verdict, without the tables below it.
fn said(status: &StatusDocument) -> String {
    shown(status).split("\n\n").next().unwrap().to_owned()
}

#[test]
fn a_healthy_cluster_takes_one_line() {
    let healthy = status(["n1", "n2", "n3"].map(member).to_vec());
    assert_eq!(said(&healthy), "healthy: 3 nodes answer, every blob has its copies");
    let alone = StatusDocument { rf: 1, ..status(vec![member("n1")]) };
    assert_eq!(said(&alone), "healthy: 1 node answers, every blob has its copies");
}

#[test]
fn fewer_nodes_than_copies_are_not_called_healthy() {
    assert_eq!(
        said(&status(vec![member("n1")])),
        "too few nodes: each blob is on 1 node, and replication.factor asks for 3\n  \
         to do: start 2 more with `--join HOST:PORT` of this one and a copy of its cluster directory, see \
         docs/operations/add-and-remove-nodes.md; until then what its disk loses is lost"
    );
    let two = said(&status(["n1", "n2"].map(member).to_vec()));
    assert!(two.starts_with("too few nodes: each blob is on 2 nodes, "), "{two}");
    assert!(two.contains("start 1 more with") && two.contains("nothing can be pushed while"), "{two}");
    let mut third = status(["n1", "n2", "n3"].map(member).to_vec());
    third.members[2].state = "joining".into();
    let third = said(&third);
    assert!(third.starts_with("changing: n3 is joining; each blob is on 2 nodes"), "{third}");
    let one_down = said(&status(vec![member("n1"), down("n2", 20_300, None)]));
    assert!(!one_down.contains("each blob is on"), "{one_down}");
    assert!(one_down.contains("the one that is up is too few for 3 copies"), "{one_down}");
}

#[test]
fn a_silent_node_is_named_with_the_time_that_is_left() {
    let members = vec![member("n1"), member("n2"), down("n3", 20_300, Some(579_700)), member("n4")];
    let mut degraded = status(members);
    degraded.blobs.under_replicated = 14;
    assert_eq!(
        said(&degraded),
        "DEGRADED: n3 has not been heard of for 20 s; 14 blobs are below 3 copies\n  \
         to do: start n3 again: in 9 min 39 s its copies are made on other nodes\n  \
         to do: if n3 is gone for good: trow cluster remove n3\n  \
         to do: nothing else: copies follow by themselves; `trow cluster wait --for settled` returns when they have"
    );
    degraded.members[2].repair_in_ms = Some(0);
    assert!(said(&degraded).contains("start n3 again; meanwhile its copies are made on other nodes"));
    degraded.members.pop();
    assert!(said(&degraded).contains("the 2 that are up are too few for 3 copies"), "{}", said(&degraded));
}

#[test]
fn without_a_quorum_it_says_whom_to_start_and_what_goes_on() {
    let mut alone = status(vec![down("n1", 5000, None), down("n2", 61_000, None), member("n3")]);
    (alone.quorum, alone.stale, alone.leader) = (false, true, None);
    let said = said(&alone);
    assert!(said.starts_with("NO QUORUM: 1 of 3 voters answer this node; n1 has not"), "{said}");
    assert!(said.contains("to do: start n1 and n2, or mend the network"), "{said}");
    assert!(said.contains("writes are refused"), "{said}");
    assert!(!said.contains("remove"), "nobody may be removed without a quorum: {said}");
}

#[test]
fn the_worst_comes_first_and_everything_is_said() {
    let mut bad = status(["n1", "n2", "n3"].map(member).to_vec());
    bad.blobs.away = 1;
    assert!(said(&bad).starts_with("repairing: 1 blob is not with its owners yet\n  to do: nothing"));
    bad.members[1].disk = Some(DiskDocument { total: 100 << 30, free: 3 << 30, blobs: 90 << 30 });
    assert!(said(&bad).starts_with("DEGRADED: 1 blob is"), "{}", said(&bad));
    assert!(said(&bad).contains("n2 has 3.0 GiB of disk left"), "{}", said(&bad));
    bad.blobs.lost = 2;
    assert!(said(&bad).starts_with("DATA LOST: 2 blobs are on no member; "), "{}", said(&bad));
    let else_nothing =
        "push them again; the nodes' logs name them (\"recorded as lost\")\n  to do: nothing else: copies";
    assert!(said(&bad).contains(else_nothing), "{}", said(&bad));
    bad.members[2].state = "joining".into();
    assert!(said(&bad).contains("n3 is joining"), "{}", said(&bad));
    bad.cluster_id = None;
    assert!(said(&bad).starts_with("NOT BORN: "), "{}", said(&bad));
}
