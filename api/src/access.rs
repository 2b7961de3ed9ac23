//! The line that is logged for each request, once its reply has gone.
//!
//! Always holds: one line a request, under the request's span, which has its id, method, path and
//! caller; no query, since upload tickets are in it, and no header. Never does: decide anything.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tracing::Span;

/// A reply's body that says when it has gone.
pub(crate) struct Logged {
    body: Body,
    line: Line,
    ended: bool,
    sent: u64,
}

/// What is known of a request when its reply begins.
pub(crate) struct Line {
    /// The request's span.
    pub(crate) span: Span,
    /// When it came.
    pub(crate) began: Instant,
    /// The status of its reply.
    pub(crate) status: u16,
    /// Whether the body is the client's: it is not for HEAD.
    pub(crate) has_body: bool,
    /// What the body has in all, in bytes, where the reply says so.
    pub(crate) length: Option<u64>,
}

/// More of a path than this is not logged, in bytes.
const PATH: usize = 512;

/// `path` as it may stand in a log: a client puts bytes into it that end lines, or that terminals
/// take for commands, and up to 64 KiB of them.
pub(crate) fn shown(path: &str) -> String {
    let mut shown = String::new();
    for byte in path.bytes().take(PATH) {
        match byte {
            0x21..=0x7e => shown.push(char::from(byte)),
            _ => shown.push_str(&format!("%{byte:02X}")),
        }
    }
    if path.len() > PATH {
        shown.push_str("...");
    }
    shown
}

impl Logged {
    /// `body`, with its line written when it ends.
    pub(crate) fn wrap(body: Body, line: Line) -> Body {
        Body::new(Logged { ended: !line.has_body || body.is_end_stream(), body, line, sent: 0 })
    }
}

impl http_body::Body for Logged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let next = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        match &next {
            Some(Ok(frame)) => self.sent += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => {}
            None => self.ended = true,
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let (status, sent) = (self.line.status, self.sent);
        let ms = self.line.began.elapsed().as_millis() as u64;
        // Nobody polls for the end of a body whose length was said before.
        let whole = self.ended || self.body.is_end_stream() || self.line.length == Some(sent);
        self.line.span.in_scope(|| match whole {
            true => tracing::info!(target: "trow::access", status, sent, ms, "answered"),
            false => {
                tracing::info!(target: "trow::access", status, sent, ms, "answered in part: the body broke off or the client went away");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_the_log_is_one_short_word_of_ascii() {
        assert_eq!(shown("/v2/team/app/manifests/v1?"), "/v2/team/app/manifests/v1?");
        assert_eq!(shown("/v2/\u{9b}2J\u{202e} x\n"), "/v2/%C2%9B2J%E2%80%AE%20x%0A");
        let long = shown(&"/é".repeat(30_000));
        assert!(long.ends_with("...") && long.len() < 3 * PATH + 4, "{} bytes", long.len());
        assert!(long.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}
