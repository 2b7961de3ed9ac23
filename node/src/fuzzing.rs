//! What fuzz targets call: any bytes in, and the properties that must hold whatever they are.
//!
//! Each function says whether the bytes meant something. Compiled for tests, which run the
//! committed corpus (`chaos-tests/fuzz/corpus`), and for the fuzz targets beside it. Never does:
//! anything that a running node does.

use crate::{listener, peer, peer_blobs, replicated, upstream};

/// The state of an upload as it comes back from a client, after a byte that says whether it is
/// the text of a `Location`, or what is inside its seal.
pub fn upload_state(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((0, text)) => replicated::fuzzing::text(text),
        Some((_, payload)) => replicated::fuzzing::payload(payload),
        None => false,
    }
}

/// What a peer sends on the connection that it opened, after a byte that says which part.
pub fn peer_frames(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((0, line)) => peer::fuzzing::greeting(line),
        Some((1, message)) => peer::fuzzing::control(message),
        Some((2, query)) => peer_blobs::fuzzing::query(query),
        Some((3, body)) => peer_blobs::fuzzing::body(body),
        Some((4, range)) => peer_blobs::fuzzing::range(range),
        Some((5, manifest)) => peer_blobs::fuzzing::manifest(manifest),
        _ => false,
    }
}

/// The bytes of a client's connection, after one that says in what pieces they come.
pub fn request_heads(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((piece, stream)) => listener::fuzzing::heads(stream, usize::from(*piece).max(1)),
        None => false,
    }
}

/// What an upstream registry wants to be shown: the text of its `WWW-Authenticate`.
pub fn challenges(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(upstream::fuzzing::challenge)
}

#[cfg(test)]
#[path = "../../chaos-tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_of_upload_states_opens_only_what_was_sealed() {
        replay::corpus("upload_state", upload_state);
    }

    #[test]
    fn the_corpus_of_peer_frames_is_refused_or_understood() {
        replay::corpus("peer_frames", peer_frames);
    }

    #[test]
    fn the_corpus_of_request_heads_is_followed_alike_in_any_pieces() {
        replay::corpus("request_heads", request_heads);
    }

    #[test]
    fn the_corpus_of_challenges_is_understood_to_its_end_or_not_at_all() {
        replay::corpus("challenges", challenges);
    }
}
