//! Answers heads that nobody may act on as if they were requests.
//!
//! The reply must come in its turn behind those to earlier requests, and look like any other
//! reply of this node, so it takes the same way: a stand-in is delivered for the head, and the
//! router answers it. Always holds: a client cannot make a request that is taken for a stand-in.

use http::{HeaderMap, HeaderValue, Request, Uri};
use trow_api::Problem;
use trow_api::request_id::{self, RequestId};
use trow_api::server::Refused;

use super::framing::{Unfit, Why, header};

/// Makes and recognizes the one stand-in of a connection.
#[derive(Clone, Debug)]
pub(super) struct Refusals {
    /// Nobody can guess it.
    path: String,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Refusals { path: format!("/{}", RequestId::random()) }
    }

    /// The stand-in for a head, which is the connection's last.
    pub(super) fn instead(&self, unfit: &Unfit) -> Vec<u8> {
        let method = if unfit.head.starts_with(b"HEAD ") { "HEAD" } else { "GET" };
        let sent = unfit.head.split(|byte| *byte == b'\n').skip(1).filter_map(header);
        let id = sent
            .filter(|(name, _)| name.eq_ignore_ascii_case(request_id::HEADER.as_str().as_bytes()))
            .find_map(|(_, value)| HeaderValue::from_bytes(value).ok());
        let id = RequestId::accept(&id.map(|id| (request_id::HEADER, id)).into_iter().collect::<HeaderMap>());
        let why = match unfit.why {
            Why::Lengths => "lengths",
            Why::Encoding => "encoding",
            Why::Host => "host",
            Why::Method => "method",
            Why::TooLarge => "large",
        };
        let path = &self.path;
        format!(
            "{method} {path}?{why} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: {id}\r\n\r\n"
        )
        .into_bytes()
    }

    /// Marks `request` as [`Refused`] if it is the stand-in.
    pub(super) fn mark<B>(&self, request: &mut Request<B>) {
        if request.uri().path() != self.path {
            return;
        }
        let (problem, message) = match request.uri().query() {
            Some("lengths") => {
                (Problem::RequestInvalid, "a request may have one Content-Length or be chunked")
            }
            Some("encoding") => {
                (Problem::RequestInvalid, "the one Transfer-Encoding that is understood is chunked, once")
            }
            Some("host") => (Problem::RequestInvalid, "a request must have exactly one Host header"),
            Some("method") => {
                (Problem::RequestInvalid, "this is no HTTP request; if it was TLS: this port is plain HTTP")
            }
            _ => (Problem::HeadTooLarge, "the request's headers are larger than this node accepts"),
        };
        *request.uri_mut() = Uri::from_static("/");
        request.extensions_mut().insert(Refused(problem, message));
    }
}
