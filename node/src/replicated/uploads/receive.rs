//! Bytes from a body into the staged file and, at the same pace, to the mirrors.
//!
//! Always holds: a mirror is sent only what was written here first, so that its content is a
//! prefix of ours. A mirror that fails is dropped from the feed and brought level later; a slow
//! one slows the client down.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use tracing::debug;
use trow_api::blobs::ByteStream;
use trow_raft::Variant;

use super::super::fault::store_fault;
use super::super::sessions::{Content, Session, State};
use super::Uploads;
use super::feed::{Feed, PIECE};
use crate::peer_blobs::wire::Fault;

/// A body that brings nothing for this long has broken off.
const IDLE: Duration = Duration::from_secs(60);

impl Uploads {
    /// Writes `body` behind what is there, its first `skip` bytes left out.
    ///
    /// # Errors
    /// What arrived before the error stays, unless the file itself failed: then the content is
    /// [`Content::Gone`].
    pub(super) async fn receive(
        &self,
        session: &Session,
        state: &mut State,
        mut body: ByteStream,
        skip: u64,
    ) -> Result<(), Fault> {
        let mut breaks = session.breaks();
        let mut feeds = Vec::new();
        let mut skip = skip;
        let result = loop {
            let next = tokio::select! {
                // A closed channel cannot be: the session holds its sender.
                _ = breaks.changed() => break Err(Fault::unavailable("another request of the upload broke in")),
                next = tokio::time::timeout(IDLE, body.next()) => next,
            };
            let mut bytes = match next {
                Ok(Some(Ok(bytes))) => bytes,
                Ok(None) => break Ok(()),
                Ok(Some(Err(error))) => break Err(Fault::BrokeOff { why: error.to_string() }),
                Err(_) => break Err(Fault::BrokeOff { why: format!("nothing came for {IDLE:?}") }),
            };
            let skipped = skip.min(bytes.len() as u64);
            skip -= skipped;
            // At most the piece's own length.
            let _ = bytes.split_to(skipped as usize);
            if let Err(fault) = self.write(session, state, &mut feeds, bytes).await {
                break Err(fault);
            }
        };
        let flushed = self.flush(session, state).await;
        let fed = self.end(state, feeds).await;
        result.and(flushed).and(fed)
    }

    async fn write(
        &self,
        session: &Session,
        state: &mut State,
        feeds: &mut Vec<Feed>,
        mut bytes: Bytes,
    ) -> Result<(), Fault> {
        let State { content, acked, lost, .. } = state;
        let Content::Open { staged, reservation } = content else { return Err(Fault::Unknown) };
        if feeds.is_empty() && !acked.is_empty() && !bytes.is_empty() {
            let ticket = self.ticket_text(session);
            let at = staged.len();
            let level = std::mem::take(acked).into_iter().filter(|(_, length)| *length == at);
            feeds.extend(
                level.map(|(node, _)| Feed::new(&self.inner.peers, node, &session.repo, &ticket, at)),
            );
        }
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            self.inner.sessions.charge(reservation, piece.len() as u64)?;
            if let Err(error) = staged.write(piece.clone()).await {
                *content = Content::Gone;
                return Err(store_fault(error));
            }
            let mut kept = Vec::with_capacity(feeds.len());
            for feed in feeds.drain(..) {
                if feed.send(&self.inner.peers, piece.clone()).await {
                    kept.push(feed);
                } else {
                    debug!(mirror = %feed.node, upload = %session.id, "a mirror fell behind in mid-body");
                    lost.push(feed.node);
                    feed.abort();
                }
            }
            *feeds = kept;
        }
        Ok(())
    }

    /// Waits until all that arrived is in the file, and says so.
    pub(super) async fn flush(&self, session: &Session, state: &mut State) -> Result<(), Fault> {
        let Content::Open { staged, .. } = &mut state.content else { return Ok(()) };
        if let Err(error) = staged.flush().await {
            state.content = Content::Gone;
            return Err(store_fault(error));
        }
        let length = staged.len();
        session.update(|status| status.length = length);
        Ok(())
    }

    /// Hears from the mirrors how far they are. That one of them has another home by now is the
    /// one answer that ends the session here; any other only means that it must be brought level.
    async fn end(&self, state: &mut State, feeds: Vec<Feed>) -> Result<(), Fault> {
        let mut stale = Ok(());
        for feed in feeds {
            let node = feed.node;
            match feed.finish().await {
                Ok(length) => state.acked.extend([(node, length)]),
                Err(Fault::Stale { .. }) if self.inner.planted.is(Variant::H2WakingHome) => {}
                Err(fault @ Fault::Stale { .. }) => stale = Err(fault),
                Err(fault) => {
                    debug!(mirror = %node, %fault, "a mirror did not take a body");
                    if matches!(fault, Fault::Unavailable { .. }) {
                        state.lost.push(node);
                    }
                }
            }
        }
        stale
    }
}

/// Reads a body to its end for nothing, so that a client that sends it hears the answer.
pub(in super::super) async fn drain(mut body: ByteStream) {
    while let Ok(Some(Ok(_))) = tokio::time::timeout(IDLE, body.next()).await {}
}
