//! Requests' heads for [`crate::fuzzing`].

use super::framing::{At, Framing, Unfit};

/// A small limit, so that heads beyond it are met.
const HEAD_MAX: usize = 512;

/// Bytes of a connection that come in pieces of `piece`: they are followed as they are in one.
pub(crate) fn heads(bytes: &[u8], piece: usize) -> bool {
    let (mut whole, mut pieces) = (Framing::new(HEAD_MAX), Framing::new(HEAD_MAX));
    let one = whole.follow(bytes);
    let mut at = 0;
    let mut two = Ok(());
    for part in bytes.chunks(piece) {
        two = pieces.follow(part);
        if two.is_err() {
            break;
        }
        at += part.len();
        assert!(pieces.unended() <= at && pieces.unended() <= HEAD_MAX + 1);
    }
    match (one, two) {
        (Ok(()), Ok(())) => {
            assert_eq!(whole.at(), pieces.at());
            assert_eq!(whole.unended(), pieces.unended());
            whole.at() != At::Opaque && !bytes.is_empty()
        }
        (Err(one), Err(two)) => {
            assert_eq!((one.why, &one.head), (two.why, &two.head));
            assert!(one.from < bytes.len() && bytes[one.from..].starts_with(&one.head));
            is_unfit(&one);
            false
        }
        (one, two) => panic!("in one piece {one:?}, in pieces of {piece} {two:?}"),
    }
}

/// What is refused has, or lacks, what it is refused for.
fn is_unfit(unfit: &Unfit) {
    use super::framing::Why;
    let head = unfit.head.to_ascii_lowercase();
    let has = |name: &[u8]| head.windows(name.len()).any(|part| part == name);
    match unfit.why {
        Why::Lengths => assert!(has(b"content-length")),
        Why::Encoding => assert!(has(b"transfer-encoding")),
        Why::Host => assert!(head.ends_with(b"\n")),
        Why::Method => assert!(head.len() == 1 && !head[0].is_ascii_alphanumeric()),
        Why::TooLarge => assert!(head.len() > HEAD_MAX),
    }
}
