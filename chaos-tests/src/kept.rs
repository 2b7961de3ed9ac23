//! HTTP/1.1 over connections that are kept, by a client that tries again only where nobody listens.
//!
//! Always holds: a request that a server may have taken is never sent again, and whatever breaks it is an
//! [`Unknown`]. A refused connection leads to the next node. A kept connection that the server closed
//! before the request is replaced, as curl and Go's client do: it is looked at just before it is used. One
//! may still be closed between the look and the request, which no server can help that closes idle
//! connections: that is forgiven where the connection was idle for as long as servers must wait at least,
//! and counted. On a connection that was used since, it is a failure like any other.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::TcpStream as Socket;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use reqwest::header::{CONTENT_LENGTH, HOST};
use reqwest::{Body, Method};
use sha2::Digest as _;
use tokio::net::TcpStream;
use trow_raft::Digest;

use crate::client::{Answer, Unknown};
use crate::content;
use crate::process::Node;

/// A request, its answer included, takes no longer.
const LIMIT: Duration = Duration::from_secs(60);
/// A server that stops closes no connection that was used within this time.
const IDLE: Duration = Duration::from_millis(500);
/// Between two rounds in which every node refused.
const PAUSE: Duration = Duration::from_millis(20);
/// Of a longer body only length and digest are kept.
const SHOWN: u64 = 4 << 20;

/// A client of all nodes.
#[derive(Debug)]
pub struct Kept {
    nodes: Vec<(String, String)>,
    /// Where the next request goes.
    pub at: usize,
    open: BTreeMap<usize, Connection>,
    /// Connections that were refused.
    pub refused: u64,
    /// Kept connections that were found closed before a request.
    pub replaced: u64,
    /// Requests that met the close of an idle connection half-way.
    pub crossed: u64,
}

#[derive(Debug)]
struct Connection {
    requests: SendRequest<Body>,
    /// The same socket, to look at.
    socket: Socket,
    /// When the last answer on it ended.
    used: Option<Instant>,
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// By which node.
    pub node: String,
    /// Status, headers and, up to 4 MiB, body.
    pub answer: Answer,
    /// How many bytes the body had.
    pub len: u64,
    /// Their SHA-256.
    pub digest: Digest,
}

impl Kept {
    /// A client of `nodes` that begins at the one with the index `at`.
    pub fn new(nodes: &[Node], at: usize) -> Self {
        let nodes: Vec<_> = nodes.iter().map(|node| (node.name.clone(), node.client.clone())).collect();
        Kept { at: at % nodes.len(), nodes, open: BTreeMap::new(), refused: 0, replaced: 0, crossed: 0 }
    }

    /// The next request goes to the next node.
    pub fn move_on(&mut self) {
        self.at = (self.at + 1) % self.nodes.len();
    }

    /// The node to which the next request goes.
    pub fn node(&self) -> &str {
        &self.nodes[self.at].0
    }

    /// Sends a request that `make` fills in and reads the answer to its end.
    ///
    /// # Errors
    /// Anything but an answer, unless it is known that nobody was there to take the request.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        make: impl Fn(hyper::http::request::Builder) -> hyper::http::Result<hyper::Request<Body>>,
    ) -> Result<Reply, Unknown> {
        let what = format!("{method} {path}");
        let sent = tokio::time::timeout(LIMIT, self.send_on(&method, path, make)).await;
        let sent = sent.unwrap_or_else(|_| Err(format!("not done after {LIMIT:?}")));
        sent.map_err(|cause| Unknown { node: self.node().to_owned(), what, cause })
    }

    async fn send_on(
        &mut self,
        method: &Method,
        path: &str,
        make: impl Fn(hyper::http::request::Builder) -> hyper::http::Result<hyper::Request<Body>>,
    ) -> Result<Reply, String> {
        let mut refusals = 0;
        loop {
            let Some(mut connection) = self.connection().await? else {
                self.refused += 1;
                refusals += 1;
                self.move_on();
                if refusals % self.nodes.len() == 0 {
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            };
            let (node, address) = self.nodes[self.at].clone();
            let builder = hyper::Request::builder().method(method.clone()).uri(path).header(HOST, address);
            let request = make(builder).map_err(|error| error.to_string())?;
            let idle = connection.used.map(|used| used.elapsed());
            let reply = match connection.requests.try_send_request(request).await {
                Ok(reply) => reply,
                // Nothing of it was written.
                Err(error) if idle.is_some() && error.message().is_some() => {
                    self.replaced += 1;
                    continue;
                }
                Err(error) if idle.is_some_and(|idle| idle >= IDLE) && is_close(error.error()) => {
                    self.crossed += 1;
                    continue;
                }
                Err(error) => return Err(chain(error.error())),
            };
            let reply = read(node, method, reply).await?;
            connection.used = Some(Instant::now());
            // One that is to be closed is found closed when it is to be used.
            self.open.insert(self.at, connection);
            return Ok(reply);
        }
    }

    /// A connection to the node at hand; none where nobody listens.
    async fn connection(&mut self) -> Result<Option<Connection>, String> {
        if let Some(mut kept) = self.open.remove(&self.at) {
            if kept.is_open() && kept.requests.ready().await.is_ok() {
                return Ok(Some(kept));
            }
            self.replaced += 1;
        }
        let began = Instant::now();
        let stream = match TcpStream::connect(&self.nodes[self.at].1).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(None),
            Err(error) => return Err(format!("connect, after {:?}: {error}", began.elapsed())),
        };
        let io = |error: std::io::Error| error.to_string();
        stream.set_nodelay(true).map_err(io)?;
        // A duplicate of the descriptor: looking needs no turn of the task that owns the stream.
        let stream = stream.into_std().map_err(io)?;
        let socket = stream.try_clone().map_err(io)?;
        let stream = TcpStream::from_std(stream).map_err(io)?;
        let (requests, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
        tokio::spawn(connection);
        Ok(Some(Connection { requests, socket, used: None }))
    }
}

impl Connection {
    /// Whether the server has neither closed it nor said anything unasked.
    fn is_open(&self) -> bool {
        let looked = self.socket.peek(&mut [0]);
        looked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock) && !self.requests.is_closed()
    }
}

/// Whether the connection ended without a byte of an answer.
fn is_close(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let ends = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    error.is_incomplete_message() || cause.is_some_and(|cause| ends.contains(&cause.kind()))
}

/// Reads an answer to its end.
async fn read(node: String, method: &Method, reply: hyper::Response<Incoming>) -> Result<Reply, String> {
    let (head, mut body) = reply.into_parts();
    let said: Option<u64> = head.headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
    let (mut hasher, mut len, mut kept) = (sha2::Sha256::new(), 0, Vec::new());
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| {
            format!("short body, {len} of {said:?} after {}: {}", head.status, chain(&error))
        })?;
        let Ok(piece) = frame.into_data() else { continue };
        hasher.update(&piece);
        len += piece.len() as u64;
        if len <= SHOWN {
            kept.extend_from_slice(&piece);
        }
    }
    if *method != Method::HEAD && said.is_some_and(|said| said != len) {
        return Err(format!("short body, {len} of {said:?} after {}", head.status));
    }
    let answer = Answer { status: head.status.as_u16(), headers: head.headers, body: Bytes::from(kept) };
    Ok(Reply { node, answer, len, digest: content::finish(hasher) })
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
