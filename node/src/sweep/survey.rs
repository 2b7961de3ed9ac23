//! Finding what a fence would be worth while for. Everything here blocks.

use std::collections::BTreeSet;

use trow_raft::state::View;
use trow_raft::{Digest, Touched, Variant};

use super::rule::{self, Candidate};
use super::{SweepError, Sweeper, may_be_cached};
use crate::store::Acknowledged;

/// What a first look found; nothing is unlinked on its word.
#[derive(Default)]
pub(super) struct Look {
    /// Blobs that may go after a fence.
    pub(super) candidates: BTreeSet<Digest>,
    /// Blobs that the state does not know and only late acknowledgements protect.
    pub(super) waiting: usize,
}

impl Sweeper {
    /// What of `touched` is here and may be superfluous. Blocks.
    pub(super) fn superfluous(&self, touched: &[Touched]) -> Result<BTreeSet<Digest>, SweepError> {
        let view = (self.agreed.view)()?;
        let mut look = Look::default();
        let mut buckets = BTreeSet::new();
        for touched in touched {
            match touched {
                Touched::Blob(digest) => self.look(&view, digest, &mut look)?,
                Touched::Partition(id) => {
                    if !view.partition(*id)?.owned_by(self.agreed.me) {
                        buckets.insert((id.index() >> 2) as u8);
                    }
                }
            }
        }
        for bucket in buckets {
            self.store.list(bucket)?.iter().try_for_each(|digest| self.look(&view, digest, &mut look))?;
        }
        Ok(look.candidates)
    }

    /// Looks at the blobs given, or at all that are here when `full`. Blocks.
    pub(super) fn survey(&self, digests: &BTreeSet<Digest>, full: bool) -> Result<Look, SweepError> {
        let mut look = Look::default();
        let view = (self.agreed.view)()?;
        digests.iter().try_for_each(|digest| self.look(&view, digest, &mut look))?;
        for bucket in (0..=u8::MAX).filter(|_| full) {
            // One view for all would keep old pages of the state from being used again.
            let view = (self.agreed.view)()?;
            self.store.list(bucket)?.iter().try_for_each(|digest| self.look(&view, digest, &mut look))?;
        }
        Ok(look)
    }

    fn look(&self, view: &View, digest: &Digest, look: &mut Look) -> Result<(), SweepError> {
        if self.store.has(digest).is_none() {
            return Ok(());
        }
        let acknowledged = match self.planted.is(Variant::C2NoFence) {
            true => Acknowledged::default(),
            false => self.store.look(digest),
        };
        match rule::candidate(view, self.agreed.me, digest, acknowledged, may_be_cached(&self.store, digest))?
        {
            Candidate::Keep => {}
            Candidate::Waits => look.waiting += 1,
            Candidate::Sweep => {
                look.candidates.insert(*digest);
            }
        }
        Ok(())
    }
}
