//! Upload states for [`crate::fuzzing`].

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use trow_api::blobs::UploadToken;
use trow_raft::RepoName;

use super::token::{MAC_LEN, Seal, UploadId, decode, encode};

fn repo(name: &str) -> RepoName {
    name.parse().expect("a name")
}

/// Text from a client: nobody knows the key, so nothing opens, whatever is cut off or added.
pub(crate) fn text(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    assert!(Seal::new(b"secret").open(&repo("a"), text, 0).is_err(), "{text:?} opens");
    let id = text.parse::<UploadId>();
    if let Ok(id) = id {
        assert_eq!(id.to_string(), text);
    }
    let (id_text, state) = text.split_once('?').unwrap_or((text, ""));
    let token = UploadToken::new(id_text, state);
    if let Some(token) = &token {
        assert_eq!((token.id(), token.state()), (id_text, state));
        assert!(token.id().len() <= UploadToken::ID_MAX && token.state().len() <= UploadToken::STATE_MAX);
        let uri = format!("/v2/a/blobs/uploads/{}?_state={}", token.id(), token.state());
        assert_eq!(uri.parse::<http::Uri>().expect("a URI").to_string(), uri);
    }
    token.is_some()
}

/// What is inside a seal: read and written it is the same, and it opens for its repository, under
/// its key, until it expires, and never otherwise.
pub(crate) fn payload(bytes: &[u8]) -> bool {
    let Some(ticket) = decode(bytes) else { return false };
    assert_eq!(encode(&ticket), bytes);
    let seal = Seal::new(b"secret");
    let text = seal.seal(&repo("a/b"), &ticket);
    assert!(UploadToken::new(ticket.id.to_string(), text.as_str()).is_some(), "{text} does not travel");
    let at = |now| seal.open(&repo("a/b"), &text, now);
    assert_eq!(at(ticket.expiry.saturating_sub(1)).is_ok(), ticket.expiry > 0);
    assert!(at(ticket.expiry).is_err() && at(u64::MAX).is_err());
    if let Ok(opened) = at(0) {
        assert_eq!(opened, ticket);
    }
    assert!(seal.open(&repo("a"), &text, 0).is_err());
    assert!(Seal::new(b"other").open(&repo("a/b"), &text, 0).is_err());
    let mut sealed = URL_SAFE_NO_PAD.decode(&text).expect("our own text");
    assert_eq!(sealed.len(), bytes.len() + MAC_LEN);
    // One bit, at a place that the input chooses.
    let at = usize::from(bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte))) % sealed.len();
    sealed[at] ^= 1 << (at % 8);
    assert!(seal.open(&repo("a/b"), &URL_SAFE_NO_PAD.encode(sealed), 0).is_err());
    true
}
