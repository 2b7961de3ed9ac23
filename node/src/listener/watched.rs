//! A client's stream, watched: its requests are followed, its progress noted, and it is closed in
//! a way that lets the client read the last answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::framing::{At, Framing};
use super::state::Shared;

/// Delivered instead of an ambiguous request: hyper answers it with 400 and closes.
const SPOILT: &[u8] = b"\0\r\n\r\n";
/// How long a client is listened to after the last answer, so that what it still sends does not
/// reset the connection under that answer.
const LINGER: Duration = Duration::from_secs(2);

/// `S`, watched.
pub(super) struct Watched<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> {
    // Gone only while being dropped.
    stream: Option<S>,
    framing: Framing,
    shared: Shared,
    /// What is left to deliver of [`SPOILT`], once a request was ambiguous.
    spoilt: Option<&'static [u8]>,
    ended: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Watched<S> {
    pub(super) fn new(stream: S, head_max: usize, shared: Shared) -> Self {
        Watched { stream: Some(stream), framing: Framing::new(head_max), shared, spoilt: None, ended: false }
    }

    fn spoil(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let Some(rest) = self.spoilt else { return false };
        let now = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..now]);
        self.spoilt = Some(&rest[now..]);
        true
    }
}

fn gone() -> io::Error {
    io::Error::from(io::ErrorKind::NotConnected)
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.spoil(buf) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let Some(stream) = &mut this.stream else { return Poll::Ready(Err(gone())) };
        match Pin::new(stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
        let fresh = &buf.filled()[before..];
        if fresh.is_empty() {
            this.ended = true;
            return Poll::Ready(Ok(()));
        }
        let followed = this.framing.follow(fresh);
        this.shared.read(this.framing.at());
        if let Err(ambiguous) = followed {
            tracing::debug!("refused a request with more than one length");
            buf.set_filled(before + ambiguous.from);
            this.spoilt = Some(SPOILT);
            if ambiguous.from == 0 {
                this.spoil(buf);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let Some(stream) = &mut this.stream else { return Poll::Ready(Err(gone())) };
        let written = Pin::new(stream).poll_write(cx, buf);
        if written.is_ready() {
            this.shared.wrote();
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let Some(stream) = &mut this.stream else { return Poll::Ready(Err(gone())) };
        let written = Pin::new(stream).poll_write_vectored(cx, bufs);
        if written.is_ready() {
            this.shared.wrote();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().map_or(Poll::Ready(Err(gone())), |stream| Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().map_or(Poll::Ready(Err(gone())), |stream| Pin::new(stream).poll_shutdown(cx))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Drop for Watched<S> {
    fn drop(&mut self) {
        // A client may still be sending a body that nobody wanted.
        let sending = self.spoilt.is_some() || matches!(self.framing.at(), At::Body | At::Head);
        let Some(stream) = self.stream.take().filter(|_| sending && !self.ended) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(LINGER, linger(stream)));
        }
    }
}

async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut sink = vec![0; 16 << 10];
    while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
}
