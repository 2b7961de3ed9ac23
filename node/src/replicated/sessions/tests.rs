//! Sessions in use stay, others expire, and the limits count what is open.

use std::time::Duration;

use super::*;

const LIMITS: Limits = Limits { expiry: Duration::from_secs(10), max_sessions: 2, max_bytes: 100 };

fn session(id: u128, expiry: u64) -> Arc<Session> {
    let status = SessionStatus::new(1, NodeId(1));
    Session::new((UploadId(id), "a".parse().unwrap(), None), status, Content::Gone, expiry)
}

#[test]
fn sessions_and_bytes_are_limited_and_given_back() {
    let sessions = Sessions::new(LIMITS);
    let mut first = sessions.reserve().unwrap();
    let second = sessions.reserve().unwrap();
    assert_eq!(sessions.reserve().err(), Some(Fault::TooMany));
    drop(second);
    let mut second = sessions.reserve().unwrap();
    sessions.charge(&mut first, 60).unwrap();
    assert_eq!(sessions.charge(&mut second, 41), Err(Fault::TooMany));
    sessions.charge(&mut second, 40).unwrap();
    drop(second);
    sessions.charge(&mut first, 40).unwrap();
    assert_eq!(sessions.reserve().err(), Some(Fault::TooMany), "no byte is left for it");
    drop(first);
    assert!(sessions.reserve().is_ok());
}

#[test]
fn a_session_belongs_to_its_repository_and_ends_at_its_expiry() {
    let sessions = Sessions::new(LIMITS);
    sessions.insert(session(1, 100));
    sessions.insert(session(2, 200));
    assert!(sessions.get(UploadId(1), &"a".parse().unwrap()).is_ok());
    assert_eq!(sessions.get(UploadId(1), &"b".parse().unwrap()).err(), Some(Fault::Unknown));
    assert_eq!(sessions.expire(100), 1);
    assert_eq!(sessions.get(UploadId(1), &"a".parse().unwrap()).err(), Some(Fault::Unknown));
    sessions.get(UploadId(2), &"a".parse().unwrap()).unwrap().prolong(300);
    assert_eq!(sessions.expire(299), 0);
}

#[tokio::test]
async fn a_session_in_use_does_not_expire() {
    let sessions = Sessions::new(LIMITS);
    let busy = session(1, 100);
    sessions.insert(busy.clone());
    let state = busy.lock().await.unwrap();
    assert_eq!(sessions.expire(100), 0);
    assert!(sessions.has(&busy));
    drop(state);
    assert_eq!(sessions.expire(100), 1);
    assert!(!sessions.has(&busy));
}

#[test]
fn figures_count_what_is_open() {
    let sessions = Sessions::new(LIMITS);
    for id in 1..=6 {
        let session = session(id, 100);
        session.update(|status| {
            status.home = NodeId(if id == 2 { 2 } else { 1 });
            (status.closed, status.ended) = (id == 5, id == 6);
        });
        sessions.insert(session);
    }
    let mut reservation = sessions.reserve().unwrap();
    sessions.charge(&mut reservation, 7).unwrap();
    assert_eq!(sessions.stats(NodeId(1)), UploadStats { home: 3, mirror: 1, bytes: 7 });
    drop(reservation);
    assert_eq!(sessions.stats(NodeId(2)), UploadStats { home: 1, mirror: 3, bytes: 0 });
}

#[test]
fn an_older_home_takes_no_mirror_from_a_later_one() {
    let sessions = Sessions::new(LIMITS);
    let of_term = |term| {
        let session = session(1, 100);
        session.update(|status| status.term = term);
        session
    };
    sessions.insert_mirror(of_term(2)).unwrap();
    assert_eq!(sessions.insert_mirror(of_term(1)), Err(Fault::Stale { term: 2 }));
    sessions.insert_mirror(of_term(2)).unwrap();
    sessions.insert_mirror(of_term(3)).unwrap();
}

#[test]
fn the_memory_of_closed_sessions_is_bounded() {
    let sessions = Sessions::new(LIMITS);
    for id in 0..CLOSED_MAX as u128 + 5 {
        let session = session(id, 100);
        session.update(|status| status.closed = true);
        sessions.insert(session);
        sessions.closed(UploadId(id));
    }
    assert!(sessions.get(UploadId(4), &"a".parse().unwrap()).is_err());
    assert!(sessions.get(UploadId(5), &"a".parse().unwrap()).is_ok());
}

#[tokio::test]
async fn a_second_request_breaks_into_a_body_that_does_not_end() {
    let session = session(1, 100);
    let first = session.lock().await.unwrap();
    let mut breaks = session.breaks();
    let held = tokio::spawn(async move {
        breaks.changed().await.unwrap();
        drop(first);
    });
    session.lock().await.unwrap();
    held.await.unwrap();
}
