//! Names here that stand for registries, as they are configured now.
//!
//! Always holds: a request sees all of one configuration or all of the next. Never does: check a name, which the
//! configuration does.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use trow_raft::RepoName;

use super::name::Host;

/// Names of which each, and what is below it, stands for a registry. Cheap to clone; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Prefixes(Arc<RwLock<BTreeMap<RepoName, Host>>>);

impl Prefixes {
    /// From now on it is these.
    pub fn replace(&self, prefixes: BTreeMap<RepoName, Host>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = prefixes;
    }

    /// The registry that a name stands for.
    pub fn get(&self, name: &RepoName) -> Option<Host> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The names that stand for a registry.
    pub(crate) fn of(&self, host: &Host) -> Vec<RepoName> {
        let prefixes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        prefixes.iter().filter(|(_, of)| *of == host).map(|(name, _)| name.clone()).collect()
    }
}

impl<const N: usize> From<[(RepoName, Host); N]> for Prefixes {
    fn from(prefixes: [(RepoName, Host); N]) -> Prefixes {
        prefixes.into_iter().collect()
    }
}

impl FromIterator<(RepoName, Host)> for Prefixes {
    fn from_iter<I: IntoIterator<Item = (RepoName, Host)>>(prefixes: I) -> Prefixes {
        Prefixes(Arc::new(RwLock::new(prefixes.into_iter().collect())))
    }
}
