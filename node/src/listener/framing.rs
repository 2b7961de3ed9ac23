//! Follows where requests begin and end in the bytes of an HTTP/1.1 connection.
//!
//! hyper resolves a request with both `Content-Length` and `Transfer-Encoding`, or with the
//! former twice, as RFC 9112 section 6.3 allows; a proxy before it may resolve it otherwise and
//! see another request in the body. Such a request is refused here, on the raw bytes, since hyper
//! drops the header before anyone can see it; so are encodings other than `chunked`, a head
//! without its one `Host` (section 3.2), and a head that is too large. So is one that does not
//! begin as a method does, without waiting for its end: a client that speaks TLS to a plain
//! listener waits for an answer before it sends more, and tries plain HTTP when it gets one.
//! Everything else that is wrong (bytes that are no HTTP, too many header lines) is hyper's to
//! refuse, in a bare 400 or 431: bytes that make no sense end the following, not the connection.
//! A head that is too slow gets no reply.

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    pub(super) from: usize,
    pub(super) why: Why,
    /// The head, as far as it was read.
    pub(super) head: Vec<u8>,
}

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// More than one length.
    Lengths,
    /// A transfer encoding that is not `chunked`, once.
    Encoding,
    /// Not exactly one `Host`.
    Host,
    /// A first byte that no method has.
    Method,
    /// More bytes than a head may have.
    TooLarge,
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

    /// How many of the last bytes are of a head that has not ended yet.
    pub(super) fn unended(&self) -> usize {
        self.head.len()
    }

    /// Follows the next bytes. Not to be called again after an error.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<(), Unfit> {
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
                    self.byte(bytes[at]).map_err(|(why, head)| Unfit { from: head_from, why, head })?;
                    at += 1;
                }
            }
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) -> Result<(), (Why, Vec<u8>)> {
        self.state = match self.state {
            // Empty lines before a request are skipped.
            State::Head { .. } if self.head.is_empty() && matches!(byte, b'\r' | b'\n') => self.state,
            State::Head { .. } if self.head.is_empty() && !is_token(byte) => {
                return Err((Why::Method, vec![byte]));
            }
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

    fn head_byte(&mut self, line: usize, byte: u8) -> Result<(), (Why, Vec<u8>)> {
        self.head.push(byte);
        self.state = match byte {
            b'\n' if line == 0 => {
                let head = std::mem::take(&mut self.head);
                after_head(&head).map_err(|why| (why, head))?
            }
            b'\n' => State::Head { line: 0 },
            _ if self.head.len() > self.head_max => {
                return Err((Why::TooLarge, std::mem::take(&mut self.head)));
            }
            b'\r' => State::Head { line },
            _ if self.head == b"PRI " => {
                self.head = Vec::new();
                State::Opaque
            }
            _ => State::Head { line: line + 1 },
        };
        Ok(())
    }
}

/// Whether a token such as a method may have `byte` (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What follows a head.
fn after_head(head: &[u8]) -> Result<State, Why> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let needs_host = lines.next().is_some_and(|line| line.trim_ascii_end().ends_with(b" HTTP/1.1"));
    let (mut lengths, mut length, mut encodings, mut chunked, mut hosts) = (0, Some(0), 0, true, 0);
    for (name, value) in lines.filter_map(header) {
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths += 1;
            length = std::str::from_utf8(value).ok().and_then(|value| value.parse::<u64>().ok());
            lengths += value.iter().filter(|byte| **byte == b',').count();
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            encodings += 1;
            chunked = value.eq_ignore_ascii_case(b"chunked");
        } else if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
        }
    }
    match (lengths, encodings, length) {
        (1.., 1.., _) | (2.., _, _) => Err(Why::Lengths),
        (_, 2.., _) => Err(Why::Encoding),
        (_, 1, _) if !chunked => Err(Why::Encoding),
        _ if hosts > 1 || (hosts == 0 && needs_host) => Err(Why::Host),
        (_, 1, _) => Ok(State::Size { size: 0, digits: true }),
        (_, _, None) => Ok(State::Opaque),
        (_, _, Some(0)) => Ok(State::Head { line: 0 }),
        (_, _, Some(left)) => Ok(State::Body { left }),
    }
}

/// A header line's name and value.
pub(super) fn header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8], expected: Result<At, usize>) {
        let mut whole = Framing::new(1 << 16);
        let result = whole.follow(bytes).map(|()| whole.at()).map_err(|unfit| unfit.from);
        assert_eq!(result, expected, "{}", String::from_utf8_lossy(bytes));
        let mut slowly = Framing::new(1 << 16);
        let result = bytes.chunks(1).try_for_each(|byte| slowly.follow(byte)).map(|()| slowly.at());
        assert_eq!(result.is_ok(), expected.is_ok());
        assert!(result.is_err() || result.ok() == expected.ok());
    }

    #[test]
    fn requests_are_followed_to_their_ends() {
        check(b"", Ok(At::Between));
        check(b"\r\nGET / HTT", Ok(At::Head));
        check(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", Ok(At::Between));
        check(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab", Ok(At::Body));
        check(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", Ok(At::Between));
        check(
            b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\nabc\r\n0\r\nt: 1\r\n",
            Ok(At::Body),
        );
        check(
            b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            Ok(At::Between),
        );
        check(b"PUT / HTTP/1.1\r\nHost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET", Ok(At::Head));
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Ok(At::Opaque));
    }

    #[test]
    fn requests_with_two_lengths_are_ambiguous() {
        check(
            b"PUT / HTTP/1.1\r\nHost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
            Err(0),
        );
        check(
            b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            Err(0),
        );
        check(b"PUT / HTTP/1.1\r\nHost: x\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\n", Err(0));
        check(b"PUT / HTTP/1.1\r\nHost: x\r\ncontent-length: 3, 3\r\n\r\n", Err(0));
        // The second of two pipelined requests.
        check(b"GET / HTTP/1.0\r\n\r\nPUT / HTTP/1.1\ncontent-length: 3\ntransfer-encoding: x\n\n", Err(18));
        check(
            b"PUT / HTTP/1.1\r\nHost: x\r\ncontent-length: 2\r\n\r\nabPUT / HTTP/1.1\r\nHost: x\r\ncontent-length: 1\r\n\
              transfer-encoding: chunked\r\n\r\n",
            Err(48),
        );
    }

    #[test]
    fn only_chunked_once_and_one_host_are_fit() {
        let encodings = [
            "gzip, chunked",
            "chunked, chunked",
            "x",
            "chunked;x",
            "",
            "chunked\r\ntransfer-encoding: chunked",
        ];
        for encoding in encodings {
            let head = format!("PUT / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: {encoding}\r\n\r\n");
            check(head.as_bytes(), Err(0));
        }
        check(b"GET / HTTP/1.1\r\n\r\n", Err(0));
        check(b"GET / HTTP/1.1\r\nhost: x\r\nHost: x\r\n\r\n", Err(0));
        check(b"GET / HTTP/1.0\r\nhost: x\r\nhost: y\r\n\r\n", Err(0));
        check(b"GET / HTTP/1.0\r\n\r\n", Ok(At::Between));
        check(&[b"G".as_slice(), &[b'\r'; 1 << 17]].concat(), Err(0));
        check(b"GET / HTTP/1.1\r\nhost:\r\n\r\n", Ok(At::Between));
    }

    #[test]
    fn what_begins_as_no_method_is_unfit_at_its_first_byte() {
        // A TLS client's first bytes.
        check(b"\x16\x03\x01\x02\x00\x01", Err(0));
        check(b"\r\n\x00", Err(2));
        check(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n(", Err(27));
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
