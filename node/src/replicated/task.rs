//! Work that goes on when the request that began it is gone.
//!
//! A handler is dropped at any await once its client breaks off. What must not stop half-way then
//! (holding a blob) and what runs beside the handler (feeding a mirror) is a task of its own,
//! which keeps the request's id and span.

use tokio::task::JoinHandle;
use tracing::Instrument as _;
use trow_api::request_id;

use crate::peer_blobs::wire::Fault;

/// Starts `work` on behalf of the current request.
pub fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    match request_id::current() {
        Some(id) => tokio::spawn(id.scope(work).in_current_span()),
        None => tokio::spawn(work.in_current_span()),
    }
}

/// Runs `work` to its end, whether or not the caller is still there to hear of it.
pub async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Fault>> + Send + 'static,
) -> Result<T, Fault> {
    spawn(work).await.unwrap_or_else(|stopped| Err(Fault::unavailable(stopped)))
}
