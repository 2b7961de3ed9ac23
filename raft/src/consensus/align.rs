//! The log and the state of one node, after a crash between an installation and the cut of the log.
//!
//! The state is switched first, so that entries it replaced may still be there. Those before its last entry
//! are dropped by consensus itself; not when they are of a later term, as the tail of a leader is that nobody
//! followed: it would call that damage, and the node would never start again.

use std::io;

use openraft::storage::{RaftLogStorage, RaftStateMachine};

use super::log_store::LogStore;
use super::machine::Machine;

/// Drops entries up to the last one of the state, if there is none after it and that one is not there.
pub(crate) async fn drop_what_was_replaced(log: &mut LogStore, machine: &mut Machine) -> io::Result<()> {
    let (applied, _) = machine.applied_state().await?;
    let last = log.get_log_state().await?.last_log_id;
    match (applied, last) {
        (Some(applied), Some(last)) if last.index <= applied.index && last != applied => {
            log.purge(applied).await
        }
        _ => Ok(()),
    }
}
