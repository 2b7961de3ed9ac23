//! One durable step of log or state at a time, for power-cut tests that must stop between two.
//!
//! Only in builds with the feature `planted`. In a running node the fsync of the next append would
//! make durable what an earlier step left out, and so hide it.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use openraft::RaftLogReader;
use openraft::entry::RaftEntry;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::vote::RaftLeaderId;

use crate::consensus::log_store::LogStore;
use crate::consensus::reserve::Reserve;
use crate::consensus::types::{Entry, LogId, Payload, Vote};
use crate::planted::Planted;
use crate::state::{ApplyEntry, State};

/// What anything here fails with.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The log and the state of a node that is no node.
pub struct Probe {
    log: LogStore,
    state: State,
}

impl Probe {
    /// Opens or makes both in `dir`.
    ///
    /// # Errors
    /// The files are not usable.
    pub fn open(dir: &Path, planted: Planted) -> Result<Self, Error> {
        let reserve = Arc::new(Reserve::open(&dir.join("reserve"))?);
        let log = LogStore::open(&dir.join("log.redb"), reserve, planted)?;
        Ok(Probe { log, state: State::open(&dir.join("state.redb"), planted)? })
    }

    /// A vote in term 1, and entries 0 to 10.
    ///
    /// # Errors
    /// The log does not write.
    pub async fn prepare(&mut self) -> Result<(), Error> {
        self.log.save_vote(&Vote::new(1, 1)).await?;
        self.log.blocking_append((0..=10).map(entry)).await?;
        Ok(())
    }

    /// Appends entry 11.
    ///
    /// # Errors
    /// The log does not write.
    pub async fn append(&mut self) -> Result<(), Error> {
        Ok(self.log.blocking_append([entry(11)]).await?)
    }

    /// Votes in term 2.
    ///
    /// # Errors
    /// The log does not write.
    pub async fn vote(&mut self) -> Result<(), Error> {
        Ok(self.log.save_vote(&Vote::new(2, 1)).await?)
    }

    /// Drops the entries after 5.
    ///
    /// # Errors
    /// The log does not write.
    pub async fn truncate(&mut self) -> Result<(), Error> {
        Ok(self.log.truncate_after(Some(entry(5).log_id())).await?)
    }

    /// Applies entries 1 to 10 and makes the state durable.
    ///
    /// # Errors
    /// The state does not write.
    pub fn checkpoint(&self) -> Result<(), Error> {
        let empty = |index| ApplyEntry { index, log_id: Bytes::new(), envelope: None, membership: None };
        self.state.apply(&(1..=10).map(empty).collect::<Vec<_>>())?;
        self.state.checkpoint()?;
        Ok(())
    }

    /// The term voted in, the last entry, and the index applied.
    ///
    /// # Errors
    /// Log or state do not read.
    pub async fn read(&mut self) -> Result<(u64, u64, u64), Error> {
        let vote = self.log.read_vote().await?.ok_or("no vote")?;
        let last = self.log.get_log_state().await?.last_log_id.ok_or("no entry")?;
        // Whatever the summary says, each entry up to it must be readable.
        let entries = self.log.try_get_log_entries(0..=last.index).await?;
        if entries.len() as u64 != last.index + 1 {
            return Err(format!("{} entries up to {}", entries.len(), last.index).into());
        }
        Ok((vote.leader_id.term, last.index, self.state.view()?.applied()?))
    }
}

fn entry(index: u64) -> Entry {
    Entry::new(LogId::new(LeaderId::new(1, 1), index), Payload::default())
}
