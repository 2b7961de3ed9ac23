//! The state of an upload as it travels in the client's `Location`.
//!
//! Owns the wire form and its authentication. Always holds: a [`Ticket`] that came from
//! [`Seal::open`] was sealed by a node of this cluster for this very repository and has not
//! expired. Never does: decide whether a session exists; the ticket only says where to look.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use trow_raft::{Algorithm, NodeId, RepoName};

/// The form of the payload; a ticket of another form is refused.
const FORM: u8 = 1;
/// More mirrors than any write quorum needs; a longer list is no ticket of ours.
const MIRRORS_MAX: usize = 16;
pub(super) const MAC_LEN: usize = 32;

/// Names one upload session for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(pub u128);

impl UploadId {
    /// A fresh random one.
    pub fn random() -> Self {
        UploadId(rand::random())
    }
}

impl std::fmt::Display for UploadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::str::FromStr for UploadId {
    type Err = InvalidTicket;

    fn from_str(text: &str) -> Result<Self, InvalidTicket> {
        if text.len() != 32 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidTicket);
        }
        u128::from_str_radix(text, 16).map(UploadId).map_err(|_| InvalidTicket)
    }
}

/// Where an upload is and how far it was when the client was last told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Which session.
    pub id: UploadId,
    /// Rises with each takeover; a holder refuses a home of a lower one.
    pub term: u64,
    /// The node that takes the client's bytes.
    pub home: NodeId,
    /// The nodes that must have written every byte before it is acknowledged.
    pub mirrors: Vec<NodeId>,
    /// Bytes acknowledged with this ticket.
    pub length: u64,
    /// When the session ends, in seconds since 1970.
    pub expiry: u64,
    /// What the digest will be computed with, when the client said so.
    pub hint: Option<Algorithm>,
}

/// Not a ticket of this cluster for this repository, or one that has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upload's state is not one that this cluster gave out for this repository, or it has expired")]
pub struct InvalidTicket;

/// Seals and opens tickets under a key that all nodes of the cluster derive alike.
#[derive(Clone)]
pub struct Seal {
    keyed: Hmac<Sha256>,
}

impl Seal {
    /// Derives the key from the cluster's secret for uploads, so that what seals tickets seals nothing else.
    pub fn new(secret: &[u8]) -> Seal {
        let mut derive = keyed(secret);
        derive.update(b"trow upload ticket 1");
        Seal { keyed: keyed(&derive.finalize().into_bytes()) }
    }

    /// The ticket's text, of URL-safe characters.
    pub fn seal(&self, repo: &RepoName, ticket: &Ticket) -> String {
        let mut bytes = encode(ticket);
        let mac = self.mac(repo, &bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The ticket in `text`, if it was sealed for `repo` and is valid at `now` (seconds since 1970).
    ///
    /// # Errors
    /// Anything else, without saying what, so that nothing can be probed.
    pub fn open(&self, repo: &RepoName, text: &str, now: u64) -> Result<Ticket, InvalidTicket> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidTicket)?;
        let (payload, mac) = bytes.split_last_chunk::<MAC_LEN>().ok_or(InvalidTicket)?;
        self.mac(repo, payload).verify_slice(mac).map_err(|_| InvalidTicket)?;
        let ticket = decode(payload).ok_or(InvalidTicket)?;
        if now < ticket.expiry { Ok(ticket) } else { Err(InvalidTicket) }
    }

    fn mac(&self, repo: &RepoName, payload: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        // Where one ends and the other begins is part of what is sealed.
        mac.update(&(payload.len() as u64).to_be_bytes());
        mac.update(payload);
        mac.update(repo.as_str().as_bytes());
        mac
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    match Hmac::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of any length"),
    }
}

pub(super) fn encode(ticket: &Ticket) -> Vec<u8> {
    let mut out = vec![FORM];
    out.extend_from_slice(&ticket.id.0.to_be_bytes());
    out.extend_from_slice(&ticket.term.to_be_bytes());
    out.extend_from_slice(&ticket.home.0.to_be_bytes());
    out.extend_from_slice(&ticket.length.to_be_bytes());
    out.extend_from_slice(&ticket.expiry.to_be_bytes());
    out.push(match ticket.hint {
        None => 0,
        Some(Algorithm::Sha256) => 1,
        Some(Algorithm::Sha512) => 2,
    });
    for mirror in ticket.mirrors.iter().take(MIRRORS_MAX) {
        out.extend_from_slice(&mirror.0.to_be_bytes());
    }
    out
}

pub(super) fn decode(payload: &[u8]) -> Option<Ticket> {
    let (form, rest) = payload.split_first()?;
    let (id, rest) = rest.split_first_chunk::<16>()?;
    let (term, rest) = rest.split_first_chunk::<8>()?;
    let (home, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let (expiry, rest) = rest.split_first_chunk::<8>()?;
    let (hint, mut rest) = rest.split_first()?;
    let hint = match hint {
        0 => None,
        1 => Some(Algorithm::Sha256),
        2 => Some(Algorithm::Sha512),
        _ => return None,
    };
    let mut mirrors = Vec::new();
    while let Some((mirror, more)) = rest.split_first_chunk::<8>() {
        mirrors.push(NodeId(u64::from_be_bytes(*mirror)));
        rest = more;
    }
    (*form == FORM && rest.is_empty() && mirrors.len() <= MIRRORS_MAX).then_some(Ticket {
        id: UploadId(u128::from_be_bytes(*id)),
        term: u64::from_be_bytes(*term),
        home: NodeId(u64::from_be_bytes(*home)),
        mirrors,
        length: u64::from_be_bytes(*length),
        expiry: u64::from_be_bytes(*expiry),
        hint,
    })
}

#[cfg(test)]
mod tests {
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
}
