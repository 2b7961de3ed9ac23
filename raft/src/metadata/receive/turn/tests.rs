//! Who takes the place of whom.

use futures::FutureExt as _;

use super::*;

fn from(term: u64, node: u64) -> Sender {
    (NodeId(node), Vote::new_committed(term, node))
}

#[test]
fn only_the_leader_takes_the_place_of_the_leaders() {
    let (receiving, leader) = (Receiving::default(), from(3, 1));
    let other = receiving.begin(from(9, 2), Some(leader)).expect("nothing is received");
    let first = receiving.begin(leader, Some(leader)).expect("the leader's");
    assert!(other.replaced().now_or_never().is_some());
    assert_eq!(first.instead_of, Some(NodeId(2)));
    for term in 4..100 {
        assert!(receiving.begin(from(term, 2), Some(leader)).is_none(), "under term {term}");
    }
    // It was not the newest any more, and its end is not that of the newest.
    drop(other);
    assert!(receiving.begin(from(9, 2), Some(leader)).is_none());
    assert!(first.replaced().now_or_never().is_none());
    let again = receiving.begin(leader, Some(leader)).expect("its own next one");
    assert!(first.replaced().now_or_never().is_some());
    drop((first, again));
    receiving.begin(from(9, 2), Some(leader)).expect("nothing is received");
}

#[test]
fn a_new_leader_takes_the_place_of_one_of_the_past() {
    let (receiving, past, new) = (Receiving::default(), from(3, 1), from(4, 2));
    let first = receiving.begin(past, Some(past)).expect("nothing is received");
    assert!(receiving.begin(new, Some(past)).is_none(), "it was not heard yet");
    let second = receiving.begin(new, Some(new)).expect("it was");
    assert!(first.replaced().now_or_never().is_some());
    assert!(receiving.begin(past, Some(new)).is_none());
    assert!(second.replaced().now_or_never().is_none());
}

#[test]
fn without_a_leader_the_newest_takes_the_place_of_the_one_before() {
    let receiving = Receiving::default();
    let first = receiving.begin(from(3, 1), None).expect("nothing is received");
    let second = receiving.begin(from(3, 1), None).expect("nobody is preferred");
    assert!(first.replaced().now_or_never().is_some() && second.replaced().now_or_never().is_none());
}
