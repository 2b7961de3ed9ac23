//! What peers may say of terms and votes, and who can make a node too old.

use prost::Message as _;

use super::*;

fn pb_vote(term: u64, node: u64, committed: bool) -> Option<pb::Vote> {
    Some(pb::Vote { term, node, committed })
}

fn known(term: u64, node: u64, committed: bool) -> Vote {
    wire::vote_from(pb_vote(term, node, committed)).unwrap()
}

fn id(term: u64, index: u64) -> LogId {
    wire::log_id_from(pb::LogId { term, index, node: 1 })
}

#[test]
fn terms_jump_by_no_more_than_elections_can_make_them() {
    for (term, theirs, is_reached) in [
        (5, 4, true),
        (5, 5 + JUMP_MAX, true),
        (5, 6 + JUMP_MAX, false),
        (0, COUNT_MAX - 1, false),
        (u64::MAX, COUNT_MAX - 1, true),
    ] {
        let judged = reachable(&known(theirs, 2, false), term);
        assert_eq!(judged.is_ok(), is_reached, "{theirs} seen from {term}: {judged:?}");
    }
}

#[test]
fn a_reply_does_not_say_that_this_node_leads_a_later_term() {
    let sent = known(7, 1, true);
    let seen = |term, node, committed| seen_vote(pb_vote(term, node, committed), &sent);
    assert_eq!(seen(8, 2, true).unwrap(), known(8, 2, true));
    assert_eq!(seen(8, 2, false).unwrap(), known(8, 2, false));
    assert_eq!(seen(7, 1, true).unwrap(), sent);
    // Its own candidacy of a later term, which was lost, may be remembered.
    assert_eq!(seen(8, 1, false).unwrap(), known(8, 1, false));
    assert!(matches!(seen(8, 1, true), Err(Forged::Vote(_))));
    assert!(matches!(seen(8 + JUMP_MAX, 2, false), Err(Forged::Beyond(_))));
    assert!(matches!(seen(u64::MAX, 2, true), Err(Forged::Beyond(_))));
    assert!(seen_vote(None, &sent).is_err());
}

/// An append of node 1 in term 7 with one entry of a later version after `prev`.
fn newer(prev: u64, entry: Vec<u8>) -> Newer {
    let at = |index| pb::LogId { term: 7, index, node: 1 };
    let envelope = Some(entry.into());
    let entry = pb::Entry { log_id: Some(at(prev + 1)), envelope, membership: None };
    let request = pb::AppendRequest {
        vote: pb_vote(7, 1, true),
        prev: Some(at(prev)),
        entries: vec![entry.encode_to_vec().into()],
        commit: None,
    };
    match append(request) {
        Err(Forged::Newer(newer)) => newer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_the_leader_that_is_followed_makes_a_node_too_old() {
    // An envelope with field 1001 alone: a command that no build has, not even one of the next level.
    let newer = newer(10, vec![0xca, 0x3e, 0x00]);
    assert_eq!(newer.at, 11);
    let (leader, committed) = (known(7, 1, true), Some(id(7, 10)));
    assert!(newer.continues(&leader, committed, Some(10)));
    // Entries after it that are not committed yet would be cut off.
    assert!(newer.continues(&leader, committed, Some(12)));
    for (what, vote, committed, last) in [
        ("another leader", known(7, 2, true), committed, Some(10)),
        ("a later term", known(6, 1, true), committed, Some(10)),
        ("a term of the past", known(8, 1, true), committed, Some(10)),
        ("a candidate that nobody elected", known(7, 1, false), committed, Some(10)),
        ("in place of what is committed", leader, Some(id(7, 11)), Some(11)),
        ("after a gap", leader, committed, Some(9)),
        ("to an empty log", leader, None, None),
    ] {
        assert!(!newer.continues(&vote, committed, last), "{what}");
    }
}

#[test]
fn a_later_field_of_an_entry_is_noticed() {
    let log_id = Some(pb::LogId { term: 7, index: 0, node: 1 });
    let mut entry = pb::Entry { log_id, envelope: None, membership: None }.encode_to_vec();
    wire::decode_entry(entry.clone().into()).unwrap();
    entry.extend([0x98, 0x06, 0x01]);
    assert!(matches!(wire::decode_entry(entry.clone().into()), Err(WireError::Newer)));
    let request = pb::AppendRequest {
        vote: pb_vote(7, 1, true),
        prev: None,
        entries: vec![entry.into()],
        commit: None,
    };
    assert!(matches!(append(request), Err(Forged::Newer(Newer { at: 0, .. }))));
}
