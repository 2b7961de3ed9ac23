//! What keeps log and state in shape on every node: checkpoints, the length of the log, the
//! reserve.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Metadata;
use crate::consensus::reserve::Reserve;

/// The state is made durable when this much was applied since, or this long ago.
const CHECKPOINT_BYTES: u64 = 32 << 20;
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
/// The log is cut when it has grown by this much.
const LOG_BYTES: u64 = 256 << 20;
const REFILL_EVERY: Duration = Duration::from_secs(30);

pub(super) async fn run(metadata: Metadata, reserve: Arc<Reserve>) {
    let inner = &metadata.0;
    let mut tick = interval(Duration::from_millis(500));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut saved, mut saved_at, mut refilled_at) = (0, Instant::now(), Instant::now());
    loop {
        tick.tick().await;
        let applied = *inner.machine.applied().borrow();
        let due = inner.machine.unsaved() >= CHECKPOINT_BYTES || saved_at.elapsed() >= CHECKPOINT_EVERY;
        if due && applied != saved && inner.machine.checkpoint().await {
            (saved, saved_at) = (applied, Instant::now());
        }
        if inner.log.bytes() >= LOG_BYTES {
            // "Building" makes the state durable and names the index; openraft then cuts the log.
            if inner.raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
        if refilled_at.elapsed() >= REFILL_EVERY {
            let reserve = reserve.clone();
            let _ = tokio::task::spawn_blocking(move || reserve.refill()).await;
            refilled_at = Instant::now();
        }
    }
}
