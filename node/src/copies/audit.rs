//! Comparing the files that are here with what should be here.
//!
//! Each directory of the store is compared anew only when its files or its part of the state
//! changed, so that asking twice a second costs little.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use trow_raft::state::{StateError, View};
use trow_raft::{Digest, NodeId, PartitionId};

use super::{Agreed, partitions_of};
use crate::store::{Store, StoreError};

/// How many rows are read at once.
const PAGE: usize = 1024;

/// What an audit found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Durable blobs that this node owns and does not have.
    pub missing: u64,
    /// Durable blobs that this node has and does not own.
    pub strays: u64,
}

/// The comparison failed.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The state cannot be read.
    #[error("read the state")]
    State(#[from] StateError),
    /// The files cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Audits one store, remembering what it found. Cheap to clone.
#[derive(Clone)]
pub struct Auditor {
    store: Store,
    agreed: Agreed,
    found: Arc<Mutex<Vec<Found>>>,
}

/// What a directory's audit depends on: its files and the state of its partitions.
type Versions = (u64, [u64; 4]);

/// What was found in a directory, if it was looked at.
type Found = Option<(Versions, Audit)>;

impl Auditor {
    /// Of this store of this node.
    pub fn new(store: Store, agreed: Agreed) -> Auditor {
        let found = Arc::new(Mutex::new(vec![None; 256]));
        Auditor { store, agreed, found }
    }

    /// Compares everything that changed since the last time. Blocks.
    ///
    /// # Errors
    /// The state or the files cannot be read.
    pub fn audit(&self) -> Result<Audit, AuditError> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = Audit::default();
        let mut view = None;
        for bucket in 0..=u8::MAX {
            // Taken before the view is: what changes meanwhile is looked at again next time.
            let versions = self.versions(bucket);
            let audit = match found[usize::from(bucket)] {
                Some((known, audit)) if known == versions => audit,
                _ => {
                    // Of a change that is under way the view may or may not see the effect, while
                    // the versions tell of it: that is for now and not for the next who asks.
                    let lasts = !self.agreed.changes.under_way();
                    // A view opened for an earlier directory may be older than these versions.
                    let fresh = (self.agreed.view)()?;
                    let audit = self.bucket(view.insert(fresh), bucket)?;
                    found[usize::from(bucket)] = lasts.then_some((versions, audit));
                    audit
                }
            };
            total.missing += audit.missing;
            total.strays += audit.strays;
        }
        Ok(total)
    }

    fn versions(&self, bucket: u8) -> Versions {
        let mut state = [0; 4];
        for (version, id) in state.iter_mut().zip(partitions_of(bucket)) {
            *version = self.agreed.changes.partition(id);
        }
        (self.store.touches(bucket), state)
    }

    fn bucket(&self, view: &View, bucket: u8) -> Result<Audit, AuditError> {
        let files: HashSet<Digest> = self.store.list(bucket)?.into_iter().collect();
        let mut audit = Audit::default();
        let mut owned = HashSet::new();
        for id in partitions_of(bucket).filter_map(|id| owns(view, id, self.agreed.me).transpose()) {
            let id = id?;
            owned.insert(id);
            each_blob(view, id, |digest, lost| {
                audit.missing += u64::from(!lost && !files.contains(&digest));
            })?;
        }
        for digest in files.iter().filter(|digest| !owned.contains(&digest.partition())) {
            audit.strays += u64::from(view.blob(digest)?.is_some());
        }
        Ok(audit)
    }
}

/// The partition, if `node` owns it.
fn owns(view: &View, id: PartitionId, node: NodeId) -> Result<Option<PartitionId>, StateError> {
    Ok(view.partition(id)?.owned_by(node).then_some(id))
}

fn each_blob(view: &View, id: PartitionId, mut each: impl FnMut(Digest, bool)) -> Result<(), StateError> {
    let mut after = None;
    loop {
        let page = view.blobs_in(id, after, PAGE)?;
        page.iter().for_each(|(digest, row)| each(*digest, row.lost));
        after = page.last().map(|(digest, _)| *digest);
        if page.len() < PAGE {
            return Ok(());
        }
    }
}
