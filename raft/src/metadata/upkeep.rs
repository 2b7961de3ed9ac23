//! What keeps log and state in shape on every node: checkpoints, the length of the log, the
//! reserve.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Metadata;
use crate::consensus::reserve::Reserve;
use crate::consensus::types::TypeConfig;

/// The state is made durable when this much was applied since, in bytes of memory, or this long ago.
/// More would write less in all: rows that share a page of the file go there at once.
const CHECKPOINT_BYTES: usize = 8 << 20;
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
const REFILL_EVERY: Duration = Duration::from_secs(30);

impl Metadata {
    /// Cuts the log up to what the state on disk has, but for the newest entries, which members
    /// that were away for a moment need.
    async fn cut_log(&self) -> Result<(), Fatal<TypeConfig>> {
        let Some(keep_from) = self.0.log.newest_from() else { return Ok(()) };
        let raft = &self.0.raft;
        let saved = raft.metrics().borrow_watched().snapshot.map_or(0, |id| id.index);
        if saved + 1 < keep_from {
            // "Building" makes the state durable and says up to where; the cut follows next time.
            raft.trigger().snapshot().await?;
        }
        let upto = saved.min(keep_from.saturating_sub(1));
        if upto > 0 { raft.trigger().purge_log(upto).await } else { Ok(()) }
    }
}

pub(super) async fn run(metadata: Metadata, reserve: Arc<Reserve>) {
    let inner = &metadata.0;
    let mut tick = interval(Duration::from_millis(500));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut saved, mut saved_at, mut refilled_at) = (0, Instant::now(), Instant::now());
    loop {
        tick.tick().await;
        let applied = *inner.machine.applied().borrow();
        let due = inner.machine.unsaved() >= CHECKPOINT_BYTES || saved_at.elapsed() >= CHECKPOINT_EVERY;
        if due && applied != saved && inner.machine.checkpoint().await.is_some() {
            (saved, saved_at) = (applied, Instant::now());
        }
        if inner.log.bytes() >= inner.settings.log_limit && metadata.cut_log().await.is_err() {
            return;
        }
        if refilled_at.elapsed() >= REFILL_EVERY {
            let reserve = reserve.clone();
            let _ = tokio::task::spawn_blocking(move || reserve.refill()).await;
            refilled_at = Instant::now();
        }
    }
}
