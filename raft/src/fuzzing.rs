//! What fuzz targets call: any bytes in, and the properties that must hold whatever they are.
//!
//! Each function says whether the bytes meant something. Compiled for tests, which run the
//! committed corpus (`chaos-tests/fuzz/corpus`), and for the fuzz targets beside it. Never does:
//! anything that a running node does.

use bytes::Bytes;
use prost::Message as _;

use crate::codec::{self, CodecError};
use crate::consensus::fuzzing as consensus;
use crate::digest::Digest;
use crate::name::{REPO_NAME_MAX, RepoName, TAG_MAX, Tag};
use crate::state::fuzzing as state;

/// A repository name and a tag: exactly the spec's grammar, in one spelling.
pub fn names(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let (repo, tag) = (text.parse::<RepoName>(), text.parse::<Tag>());
    assert_eq!(repo.is_ok(), is_repo_name(text), "{text:?} is a repository name or it is not");
    assert_eq!(tag.is_ok(), is_tag(text), "{text:?} is a tag or it is not");
    if let Ok(repo) = &repo {
        assert_eq!((repo.as_str(), repo.to_string().as_str()), (text, text));
        assert!(!text.starts_with('/') && text.split('/').all(|part| !part.is_empty() && part != ".."));
        state::repo_keys(repo);
    }
    if let Ok(tag) = &tag {
        assert_eq!((tag.as_str(), tag.to_string().as_str()), (text, text));
        assert!(!text.contains(['/', ':', '%', '?', '#']) && text != "..", "{text:?} changes a path");
    }
    repo.is_ok() || tag.is_ok()
}

/// A digest: one spelling, whole, and the same through every form that it takes.
pub fn digests(bytes: &[u8]) -> bool {
    let raw = codec::digest_from(bytes);
    if let Ok(digest) = raw {
        assert_eq!(codec::digest_bytes(&digest), bytes);
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }
    let parsed = std::str::from_utf8(bytes).ok().and_then(|text| Some((text, text.parse::<Digest>().ok()?)));
    let Some((text, digest)) = parsed else { return raw.is_ok() };
    assert_eq!(digest.to_string(), text);
    let hex = text.split_once(':').map(|(_, hex)| hex);
    assert_eq!(hex, Some(digest.hex().as_str()));
    assert_eq!(digest.hex().len(), 2 * digest.algorithm().size());
    assert_eq!(Digest::new(digest.algorithm(), digest.as_bytes()), Ok(digest));
    assert_eq!(codec::digest_from(&codec::digest_bytes(&digest)), Ok(digest));
    let ten_bits = u16::from_be_bytes([digest.as_bytes()[0], digest.as_bytes()[1]]) >> 6;
    assert_eq!(digest.partition().index(), ten_bits);
    state::digest_keys(&digest);
    true
}

/// A log entry's bytes, from a disk or a peer: what decodes comes back as it was, and is applied
/// by a state without an error, whatever it says.
pub fn log_entries(bytes: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(applied) = codec::decode_applied(bytes.clone()) {
        assert_eq!(codec::decode_applied(codec::encode_applied(&applied)).ok(), Some(applied));
    }
    let entry = consensus::entry(bytes.clone());
    let envelope = match codec::decode_envelope(bytes.clone()) {
        Ok(envelope) => envelope,
        Err(CodecError::Damaged(_)) => {
            assert!(crate::proto::entry::Envelope::decode(bytes).is_err());
            return entry;
        }
        Err(_) => return entry,
    };
    let again = codec::encode_envelope(&envelope);
    assert_eq!(again.len(), bytes.len(), "a field was lost or made up");
    assert_eq!(codec::decode_envelope(again).ok().as_ref(), Some(&envelope));
    state::apply(envelope);
    true
}

/// Requests of a peer that has proven itself, after a byte that says of which kind: what is
/// passed on to consensus has the form that a member of the protocol gives it.
pub fn raft_frames(bytes: &[u8]) -> bool {
    let Some((kind, message)) = bytes.split_first() else { return false };
    consensus::request(*kind, Bytes::copy_from_slice(message))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`, read from the left.
fn is_repo_name(text: &str) -> bool {
    let word =
        |text: &str| text.trim_start_matches(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).len();
    let mut rest = text;
    loop {
        let left = word(rest);
        if left == rest.len() {
            return false;
        }
        rest = &rest[rest.len() - left..];
        if rest.is_empty() {
            return text.len() <= REPO_NAME_MAX;
        }
        let dashes = rest.len() - rest.trim_start_matches('-').len();
        let separator = match rest.as_bytes() {
            [b'/' | b'.', ..] => 1,
            [b'_', b'_', ..] => 2,
            [b'_', ..] => 1,
            _ if dashes > 0 => dashes,
            _ => return false,
        };
        rest = &rest[separator..];
    }
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
fn is_tag(text: &str) -> bool {
    let mut characters = text.chars();
    let word = |c: char| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_');
    let first = characters.next().is_some_and(word);
    first && text.len() <= TAG_MAX && characters.all(|c| word(c) || c == '.' || c == '-')
}

#[cfg(test)]
#[path = "../../chaos-tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_of_names_is_read_as_the_spec_says() {
        replay::corpus("names", names);
    }

    #[test]
    fn the_corpus_of_digests_is_read_in_one_spelling() {
        replay::corpus("digests", digests);
    }

    #[test]
    fn the_corpus_of_log_entries_is_decoded_and_applied_without_a_panic() {
        replay::corpus("log_entries", log_entries);
    }

    #[test]
    fn the_corpus_of_raft_frames_is_refused_or_well_formed() {
        replay::corpus("raft_frames", raft_frames);
    }
}
