//! A client's stream, watched: its requests are followed, its progress noted, and it is closed in
//! a way that lets the client read the last answer.
//!
//! A head is delivered when it is whole, so that an unfit one is never seen behind here: in its
//! place comes a request that [`Refusals`](super::refusal) recognizes and answers. What follows
//! it is not read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::framing::{At, Framing};
use super::refusal::Refusals;
use super::state::Shared;

/// How long a client is listened to after the last answer, so that what it still sends does not
/// reset the connection under that answer.
const LINGER: Duration = Duration::from_secs(2);

/// `S`, watched.
pub(super) struct Watched<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> {
    // Gone only while being dropped.
    stream: Option<S>,
    framing: Framing,
    shared: Shared,
    refusals: Refusals,
    /// The head that has not ended yet.
    head: Vec<u8>,
    /// To be delivered before anything else is read, from `delivered` on.
    ready: Vec<u8>,
    delivered: usize,
    refused: bool,
    ended: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Watched<S> {
    pub(super) fn new(stream: S, head_max: usize, shared: Shared, refusals: Refusals) -> Self {
        Watched {
            stream: Some(stream),
            framing: Framing::new(head_max),
            shared,
            refusals,
            head: Vec::new(),
            ready: Vec::new(),
            delivered: 0,
            refused: false,
            ended: false,
        }
    }

    /// Delivers what is ready, if anything is.
    fn deliver(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = &self.ready[self.delivered..];
        if rest.is_empty() {
            return false;
        }
        let now = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..now]);
        self.delivered += now;
        if self.delivered == self.ready.len() {
            (self.ready, self.delivered) = (Vec::new(), 0);
        }
        true
    }

    /// Follows what was read into `buf` behind `before`, and leaves there what may be delivered.
    fn take_in(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let fresh = &buf.filled()[before..];
        let followed = self.framing.follow(fresh);
        self.shared.read(self.framing.at());
        let kept = self.head.len();
        let fit = match &followed {
            Ok(()) => (kept + fresh.len()).saturating_sub(self.framing.unended()),
            // A head that is kept goes on with the first byte.
            Err(unfit) if unfit.from == 0 => 0,
            Err(unfit) => kept + unfit.from,
        };
        if kept == 0 {
            self.head.extend_from_slice(&fresh[fit..]);
            buf.set_filled(before + fit);
        } else {
            self.head.extend_from_slice(fresh);
            buf.set_filled(before);
            let rest = self.head.split_off(fit);
            self.ready = std::mem::replace(&mut self.head, rest);
        }
        if let Err(unfit) = followed {
            tracing::debug!(why = ?unfit.why, "refused a request's head");
            self.refused = true;
            self.head = Vec::new();
            self.ready.extend(self.refusals.instead(&unfit));
        }
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
        let before = buf.filled().len();
        loop {
            if buf.filled().len() > before || this.deliver(buf) {
                return Poll::Ready(Ok(()));
            }
            if this.refused {
                // The answer closes the connection. An end here would cut it off.
                return Poll::Pending;
            }
            let Some(stream) = &mut this.stream else { return Poll::Ready(Err(gone())) };
            match Pin::new(stream).poll_read(cx, buf) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            if buf.filled().len() == before {
                this.ended = true;
                return Poll::Ready(Ok(()));
            }
            this.take_in(buf, before);
        }
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
        let sending = self.refused || matches!(self.framing.at(), At::Body | At::Head);
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
