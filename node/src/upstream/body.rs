//! Bodies of answers: read whole within a limit, or handed on as they arrive.
//!
//! Always holds: nothing is waited for without a bound. Never does: undo an encoding; bytes are as they came.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use reqwest::Response;
use tokio::time::timeout;
use trow_api::ByteStream;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is longer than the limit.
    TooLong,
    /// It broke off, or stopped for too long.
    Broken,
}

/// The whole body, of at most `most` bytes, no two of which come later than `patience` after another.
pub(super) async fn whole(response: Response, most: usize, patience: Duration) -> Result<Bytes, Unread> {
    if response.content_length().is_some_and(|length| length > most as u64) {
        return Err(Unread::TooLong);
    }
    let mut stream = response.bytes_stream();
    let mut bytes = BytesMut::new();
    // A body of many small pieces does not get more time than one that stops.
    let all = async {
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|_| Unread::Broken)?;
            if bytes.len() + piece.len() > most {
                return Err(Unread::TooLong);
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    };
    timeout(patience, all).await.unwrap_or(Err(Unread::Broken))
}

/// The body as it arrives. `held` is let go with it.
pub(super) fn arriving(response: Response, patience: Duration, held: impl Send + 'static) -> ByteStream {
    let state = Some((response.bytes_stream().boxed(), held));
    Box::pin(futures::stream::unfold(state, move |state| async move {
        let (mut stream, held) = state?;
        match timeout(patience, stream.next()).await {
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some((stream, held)))),
            Ok(Some(Err(_))) => Some((Err(broken("upstream broke off")), None)),
            Ok(None) => None,
            Err(_) => Some((Err(broken("upstream made no progress")), None)),
        }
    }))
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, why)
}
