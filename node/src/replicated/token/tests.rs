//! A ticket opens for its repository, until it expires, and nowhere else.

use super::*;
use proptest::prelude::*;

fn repo(name: &str) -> RepoName {
    name.parse().unwrap()
}

fn ticket() -> Ticket {
    Ticket {
        id: UploadId(7),
        term: 3,
        home: NodeId(1),
        mirrors: vec![NodeId(2), NodeId(u64::MAX)],
        length: 1 << 40,
        expiry: 1000,
        hint: Some(Algorithm::Sha512),
    }
}

#[test]
fn a_ticket_comes_back_as_it_was_sealed() {
    let seal = Seal::new(b"secret");
    let text = seal.seal(&repo("a/b"), &ticket());
    assert_eq!(seal.open(&repo("a/b"), &text, 999), Ok(ticket()));
    let same_secret = Seal::new(b"secret");
    assert_eq!(same_secret.open(&repo("a/b"), &text, 0), Ok(ticket()));
}

#[test]
fn a_ticket_is_refused_elsewhere_later_and_under_another_secret() {
    let seal = Seal::new(b"secret");
    let text = seal.seal(&repo("a/b"), &ticket());
    assert_eq!(seal.open(&repo("a/b"), &text, 1000), Err(InvalidTicket));
    assert_eq!(seal.open(&repo("a/c"), &text, 0), Err(InvalidTicket));
    assert_eq!(Seal::new(b"other").open(&repo("a/b"), &text, 0), Err(InvalidTicket));
}

#[test]
fn nothing_moves_between_the_ticket_and_the_repository() {
    let seal = Seal::new(b"secret");
    // The last mirror's bytes are also the beginning of a repository's name.
    let long = Ticket { mirrors: vec![NodeId(2), NodeId(u64::from_be_bytes(*b"aaaaaaaa"))], ..ticket() };
    let sealed = URL_SAFE_NO_PAD.decode(seal.seal(&repo("b"), &long)).unwrap();
    let (payload, mac) = sealed.split_last_chunk::<MAC_LEN>().unwrap();
    let short = payload.strip_suffix(b"aaaaaaaa").unwrap();
    assert!(decode(short).is_some(), "in form it is a ticket");
    let short = [short, mac].concat();
    assert_eq!(seal.open(&repo("aaaaaaaab"), &URL_SAFE_NO_PAD.encode(short), 0), Err(InvalidTicket));
    // And the other way round.
    let sealed = URL_SAFE_NO_PAD.decode(seal.seal(&repo("aaaaaaaab"), &ticket())).unwrap();
    let (payload, mac) = sealed.split_last_chunk::<MAC_LEN>().unwrap();
    let long = [payload, b"aaaaaaaa", mac.as_slice()].concat();
    assert_eq!(seal.open(&repo("b"), &URL_SAFE_NO_PAD.encode(long), 0), Err(InvalidTicket));
}

proptest! {
    #[test]
    fn a_changed_ticket_is_refused(at in 0usize..200, bit in 0u8..8) {
        let seal = Seal::new(b"secret");
        let mut bytes = URL_SAFE_NO_PAD.decode(seal.seal(&repo("a"), &ticket())).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(seal.open(&repo("a"), &URL_SAFE_NO_PAD.encode(bytes), 0).is_err());
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}", raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        let seal = Seal::new(b"secret");
        prop_assert!(seal.open(&repo("a"), &text, 0).is_err());
        prop_assert!(seal.open(&repo("a"), &URL_SAFE_NO_PAD.encode(raw), 0).is_err());
    }
}
