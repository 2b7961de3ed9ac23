//! Follows where requests begin and end in the bytes of an HTTP/1.1 connection.
//!
//! hyper resolves a request with both `Content-Length` and `Transfer-Encoding`, or with the
//! former twice, as RFC 9112 section 6.3 allows; a proxy before it may resolve it otherwise and
//! see another request in the body. Such a request is refused here, on the raw bytes, since hyper
//! drops the header before anyone can see it. Everything else that is wrong is hyper's to refuse:
//! bytes that make no sense end the following, not the connection.

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Between requests.
    Between,
    /// In a request's head.
    Head,
    /// In a request's body.
    Body,
    /// Not followed: HTTP/2, or nothing that makes sense.
    Opaque,
}

/// The bytes from this offset on begin, or continue, a head that must not be acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ambiguous {
    pub(super) from: usize,
}

/// Follows one connection.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    head: Vec<u8>,
    head_max: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// `line` counts the bytes of the current line, without its end.
    Head {
        line: usize,
    },
    Body {
        left: u64,
    },
    /// Within a chunk's size line; its digits so far, and whether they have ended.
    Size {
        size: u64,
        digits: bool,
    },
    Chunk {
        left: u64,
    },
    /// Between a chunk's data and the next size line.
    ChunkEnd,
    Trailer {
        line: usize,
    },
    Opaque,
}

impl Framing {
    pub(super) fn new(head_max: usize) -> Self {
        Framing { state: State::Head { line: 0 }, head: Vec::new(), head_max }
    }

    pub(super) fn at(&self) -> At {
        match self.state {
            State::Head { .. } if self.head.is_empty() => At::Between,
            State::Head { .. } => At::Head,
            State::Opaque => At::Opaque,
            _ => At::Body,
        }
    }

    /// Follows the next bytes.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<(), Ambiguous> {
        let mut at = 0;
        // Where the head that is being followed began, in these bytes.
        let mut head_from = 0;
        while at < bytes.len() {
            if self.head.is_empty() {
                head_from = at;
            }
            match self.state {
                State::Opaque => return Ok(()),
                State::Body { left } => {
                    let skip = left.min((bytes.len() - at) as u64);
                    at += skip as usize;
                    self.state = if left == skip {
                        State::Head { line: 0 }
                    } else {
                        State::Body { left: left - skip }
                    };
                }
                State::Chunk { left } => {
                    let skip = left.min((bytes.len() - at) as u64);
                    at += skip as usize;
                    self.state =
                        if left == skip { State::ChunkEnd } else { State::Chunk { left: left - skip } };
                }
                _ => {
                    self.byte(bytes[at]).map_err(|()| Ambiguous { from: head_from })?;
                    at += 1;
                }
            }
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) -> Result<(), ()> {
        self.state = match self.state {
            // Empty lines before a request are skipped.
            State::Head { .. } if self.head.is_empty() && matches!(byte, b'\r' | b'\n') => self.state,
            State::Head { line } => return self.head_byte(line, byte),
            State::Size { size, digits } => match byte {
                b'\n' if size == 0 => State::Trailer { line: 0 },
                b'\n' => State::Chunk { left: size },
                _ if !digits => self.state,
                _ => match (byte as char).to_digit(16) {
                    Some(digit) => match size.checked_mul(16) {
                        Some(size) => State::Size { size: size + u64::from(digit), digits },
                        None => State::Opaque,
                    },
                    None => State::Size { size, digits: false },
                },
            },
            State::ChunkEnd if byte == b'\n' => State::Size { size: 0, digits: true },
            State::ChunkEnd if byte == b'\r' => self.state,
            State::ChunkEnd => State::Opaque,
            State::Trailer { line } => match byte {
                b'\n' if line == 0 => State::Head { line: 0 },
                b'\n' => State::Trailer { line: 0 },
                b'\r' => self.state,
                _ => State::Trailer { line: line + 1 },
            },
            State::Body { .. } | State::Chunk { .. } | State::Opaque => self.state,
        };
        Ok(())
    }

    fn head_byte(&mut self, line: usize, byte: u8) -> Result<(), ()> {
        self.head.push(byte);
        self.state = match byte {
            b'\n' if line == 0 => {
                let head = std::mem::take(&mut self.head);
                after_head(&head).ok_or(())?
            }
            b'\n' => State::Head { line: 0 },
            b'\r' => State::Head { line },
            _ if self.head.len() > self.head_max || self.head == b"PRI " => {
                self.head = Vec::new();
                State::Opaque
            }
            _ => State::Head { line: line + 1 },
        };
        Ok(())
    }
}

/// What follows a head; `None` when that could be understood in two ways.
fn after_head(head: &[u8]) -> Option<State> {
    let (mut lengths, mut length, mut encodings, mut chunked) = (0, Some(0), 0, false);
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths += 1;
            length = std::str::from_utf8(value).ok().and_then(|value| value.parse::<u64>().ok());
            lengths += value.iter().filter(|byte| **byte == b',').count();
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            encodings += 1;
            let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
            chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
        }
    }
    match (lengths, encodings, length) {
        (1.., 1.., _) | (2.., _, _) => None,
        (_, 1.., _) if chunked => Some(State::Size { size: 0, digits: true }),
        (_, 1.., _) | (_, _, None) => Some(State::Opaque),
        (_, _, Some(0)) => Some(State::Head { line: 0 }),
        (_, _, Some(left)) => Some(State::Body { left }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8], expected: Result<At, usize>) {
        let mut whole = Framing::new(1 << 16);
        let result = whole.follow(bytes).map(|()| whole.at()).map_err(|ambiguous| ambiguous.from);
        assert_eq!(result, expected, "{}", String::from_utf8_lossy(bytes));
        let mut slowly = Framing::new(1 << 16);
        let result = bytes.chunks(1).try_for_each(|byte| slowly.follow(byte)).map(|()| slowly.at());
        assert_eq!(result.is_ok(), expected.is_ok());
        assert!(result.is_err() || result == expected.map_err(|from| Ambiguous { from }));
    }

    #[test]
    fn requests_are_followed_to_their_ends() {
        check(b"", Ok(At::Between));
        check(b"\r\nGET / HTT", Ok(At::Head));
        check(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", Ok(At::Between));
        check(b"PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", Ok(At::Body));
        check(b"PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", Ok(At::Between));
        check(
            b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\nabc\r\n0\r\nt: 1\r\n",
            Ok(At::Body),
        );
        check(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Ok(At::Between));
        check(b"PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET", Ok(At::Head));
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Ok(At::Opaque));
    }

    #[test]
    fn requests_with_two_lengths_are_ambiguous() {
        check(b"PUT / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", Err(0));
        check(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", Err(0));
        check(b"PUT / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\n", Err(0));
        check(b"PUT / HTTP/1.1\r\ncontent-length: 3, 3\r\n\r\n", Err(0));
        // The second of two pipelined requests.
        check(b"GET / HTTP/1.1\r\n\r\nPUT / HTTP/1.1\ncontent-length: 3\ntransfer-encoding: x\n\n", Err(18));
        check(
            b"PUT / HTTP/1.1\r\ncontent-length: 2\r\n\r\nabPUT / HTTP/1.1\r\ncontent-length: 1\r\n\
              transfer-encoding: chunked\r\n\r\n",
            Err(39),
        );
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_are_followed_alike(
            bytes in proptest::collection::vec(prop_oneof![
                Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'a'), Just(b':'), any::<u8>()
            ], 0..200),
            cut in 0..200_usize,
        ) {
            let cut = cut.min(bytes.len());
            let (mut whole, mut pieces) = (Framing::new(64), Framing::new(64));
            let one = whole.follow(&bytes).is_ok();
            let two = pieces.follow(&bytes[..cut]).and_then(|()| pieces.follow(&bytes[cut..])).is_ok();
            prop_assert_eq!(one, two);
            prop_assert!(!one || whole.at() == pieces.at());
        }
    }
}
