//! One HTTP/1.1 connection that is kept, driven by the task that uses it.
//!
//! As little as possible between the clock and the socket: what is measured should be the server.
//! Always holds: a reply counts only once its body has been read to the end.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::target::Address;

/// A reply that takes longer is an error.
const PATIENCE: Duration = Duration::from_secs(30);

/// An exchange that came to no reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("connect: {0}")]
    Connect(#[source] std::io::Error),
    #[error("HTTP: {0}")]
    Http(#[source] hyper::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("no reply within {} s", PATIENCE.as_secs())]
    Slow,
}

/// What is asked.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: &'a str,
    pub(super) content_type: Option<&'static str>,
    pub(super) body: Bytes,
}

impl<'a> Ask<'a> {
    /// A request without a body.
    pub(super) fn new(method: Method, path: &'a str) -> Self {
        Ask { method, path, content_type: None, body: Bytes::new() }
    }
}

/// What came back.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Bytes of the body.
    pub(super) length: u64,
    /// The body itself, if it was to be kept.
    pub(super) body: BytesMut,
}

/// A connection to one server.
pub(super) struct Connection {
    sender: SendRequest<Whole>,
    driver: Pin<Box<http1::Connection<TokioIo<TcpStream>, Whole>>>,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
}

impl Connection {
    pub(super) async fn open(
        address: &Address,
        authorization: Option<&HeaderValue>,
    ) -> Result<Connection, ConnectionError> {
        let connect = tokio::time::timeout(PATIENCE, TcpStream::connect(address.authority()));
        let stream = connect.await.map_err(|_| ConnectionError::Slow)?.map_err(ConnectionError::Connect)?;
        stream.set_nodelay(true).map_err(ConnectionError::Connect)?;
        let shake = http1::handshake(TokioIo::new(stream));
        let (sender, driver) = shake.await.map_err(ConnectionError::Http)?;
        let host = address.host().clone();
        Ok(Connection { sender, driver: Box::pin(driver), host, authorization: authorization.cloned() })
    }

    /// Asks and reads the reply, counting its body.
    pub(super) async fn ask(&mut self, ask: Ask<'_>) -> Result<Reply, ConnectionError> {
        self.exchange(ask, false).await
    }

    /// As [`Connection::ask`], keeping the body.
    pub(super) async fn fetch(&mut self, ask: Ask<'_>) -> Result<Reply, ConnectionError> {
        self.exchange(ask, true).await
    }

    async fn exchange(&mut self, ask: Ask<'_>, keep: bool) -> Result<Reply, ConnectionError> {
        let request = self.request(ask)?;
        let sender = &mut self.sender;
        let exchange = async {
            let reply = sender.send_request(request).await.map_err(ConnectionError::Http)?;
            let (head, mut incoming) = reply.into_parts();
            let mut read =
                Reply { status: head.status, headers: head.headers, length: 0, body: BytesMut::new() };
            while let Some(data) = next(&mut incoming).await.map_err(ConnectionError::Http)? {
                read.length += data.len() as u64;
                if keep {
                    read.body.extend_from_slice(&data);
                }
            }
            Ok(read)
        };
        // The connection moves only while it is polled: here, in the task that waits for it.
        let driven = async {
            tokio::select! {
                biased;
                reply = exchange => reply,
                ended = &mut self.driver => Err(ended.map_or_else(ConnectionError::Http, |()| ConnectionError::Closed)),
            }
        };
        tokio::time::timeout(PATIENCE, driven).await.map_err(|_| ConnectionError::Slow)?
    }

    fn request(&self, ask: Ask<'_>) -> Result<Request<Whole>, ConnectionError> {
        let mut request = Request::new(Whole((!ask.body.is_empty()).then_some(ask.body)));
        *request.method_mut() = ask.method;
        *request.uri_mut() = ask.path.parse().map_err(|_| ConnectionError::Closed)?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        if let Some(authorization) = &self.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static(super::content::MEDIA_TYPE));
        if let Some(content_type) = ask.content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        Ok(request)
    }
}

/// The next piece of a body.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, hyper::Error> {
    loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        match frame.transpose()?.map(Frame::into_data) {
            None => return Ok(None),
            Some(Ok(data)) => return Ok(Some(data)),
            // Trailers.
            Some(Err(_)) => {}
        }
    }
}

/// A body in one piece.
pub(super) struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
