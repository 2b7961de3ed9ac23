//! The state of an upload as it travels in the client's `Location`.
//!
//! Owns the wire form and its authentication. Always holds: a [`Ticket`] that came from
//! [`Seal::open`] was sealed by a node of this cluster for this very repository and has not
//! expired. Never does: decide whether a session exists; the ticket only says where to look.

use std::time::{SystemTime, UNIX_EPOCH};

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

/// The clock that tickets expire by, in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
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
mod tests;
