//! How often a peer is complained of.

use super::*;

#[test]
fn a_peer_causes_one_line_in_a_period_and_the_next_counts_the_others() {
    let (complaints, began) = (Complaints::default(), Instant::now());
    let due = |peer, about, after| complaints.due_at(NodeId(peer), about, began + after);
    let moment = Duration::from_millis(1);
    assert_eq!(due(1, About::Forged, Duration::ZERO), Some(0));
    for count in 1..=500 {
        assert_eq!(due(1, About::Forged, moment * count), None);
    }
    assert_eq!(due(2, About::Forged, moment), Some(0), "another peer is heard");
    assert_eq!(due(1, About::Name, moment), Some(0), "and so is another thing");
    assert_eq!(due(1, About::Forged, PERIOD - moment), None);
    assert_eq!(due(1, About::Forged, PERIOD), Some(501));
    assert_eq!(due(1, About::Forged, PERIOD * 2 - moment), None);
    assert_eq!(due(1, About::Forged, PERIOD * 2), Some(1));
}

#[test]
fn complaints_of_many_peers_take_bounded_memory() {
    let (complaints, began) = (Complaints::default(), Instant::now());
    let written = (0..MOST as u64 * 3).filter(|peer| {
        let due = complaints.due_at(NodeId(*peer), About::Forged, began);
        due.is_some()
    });
    assert_eq!(written.count(), MOST);
    assert_eq!(complaints.0.lock().unwrap().len(), MOST);
    assert_eq!(complaints.due_at(NodeId(9999), About::Forged, began + PERIOD), Some(0));
    assert_eq!(complaints.0.lock().unwrap().len(), 1);
}
