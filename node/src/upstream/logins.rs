//! For which repositories there ever were credentials.
//!
//! Always holds: what was fetched with a login stays for known users when the login is taken away, which is when
//! it matters most; `public = true` is how an operator says otherwise. Kept in a file, so that a restart forgets
//! nothing. Never does: hold a secret.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use trow_api::pull::UpstreamName;

use crate::follow;

/// The file's name in the data directory.
const FILE: &str = "upstream-logins.json";
/// Places that are remembered; configurations have few.
const PLACES_MAX: usize = 10_000;

/// The places, each a registry or a path below one.
#[derive(Default)]
pub(super) struct Logins {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    dir: Option<PathBuf>,
    places: BTreeSet<String>,
}

impl Logins {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on they are kept in this directory too, beside those that are there.
    pub(super) fn keep_in(&self, dir: &Path) {
        let mut kept = self.lock();
        let path = dir.join(FILE);
        let there = match path.exists() {
            true => follow::read(&path).and_then(|bytes| {
                serde_json::from_slice::<BTreeSet<String>>(&bytes).map_err(|error| error.to_string())
            }),
            false => Ok(BTreeSet::new()),
        };
        match there {
            Ok(there) => kept.places.extend(there),
            Err(why) => {
                tracing::error!(path = %path.display(), why, "it is not known which upstreams there were credentials for; purge what is private, or mend the file, and start the node again");
            }
        }
        kept.dir = Some(dir.to_owned());
        kept.write();
    }

    /// There are credentials for these places now.
    pub(super) fn learn(&self, places: impl Iterator<Item = String>) {
        let mut kept = self.lock();
        let before = kept.places.len();
        for place in places {
            if kept.places.len() < PLACES_MAX {
                kept.places.insert(place);
            }
        }
        if kept.places.len() > before {
            kept.write();
        }
    }

    /// Whether there ever were credentials for anything.
    pub(super) fn any(&self) -> bool {
        !self.lock().places.is_empty()
    }

    /// Whether there ever were credentials for the repository.
    pub(super) fn cover(&self, name: &UpstreamName) -> bool {
        let kept = self.lock();
        let mut place = format!("{}/{}", name.host(), name.repo());
        loop {
            if kept.places.contains(&place) {
                return true;
            }
            match place.rfind('/') {
                Some(end) => place.truncate(end),
                None => return false,
            }
        }
    }
}

impl Kept {
    fn write(&self) {
        let Some(dir) = self.dir.as_ref().filter(|_| !self.places.is_empty()) else { return };
        let text = serde_json::to_vec(&self.places).unwrap_or_default();
        if let Err(error) = trow_raft::durable::write(dir, FILE, &text) {
            tracing::error!(dir = %dir.display(), cause = %error, "which upstreams there are credentials for is not remembered beyond this run; check the disk");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(host: &str, repo: &str) -> UpstreamName {
        UpstreamName::new(host.parse().unwrap(), &repo.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_place_covers_what_is_below_it_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let logins = Logins::default();
        logins.learn(["a.example".to_owned()].into_iter());
        logins.keep_in(dir.path());
        logins.learn(["b.example:5000/team".to_owned()].into_iter());
        let again = Logins::default();
        again.keep_in(dir.path());
        for logins in [logins, again] {
            assert!(logins.cover(&name("a.example", "x")) && logins.cover(&name("a.example", "x/y/z")));
            assert!(logins.cover(&name("b.example:5000", "team/app")));
            assert!(logins.cover(&name("b.example:5000", "team")));
            assert!(!logins.cover(&name("b.example:5000", "teams/app")));
            assert!(!logins.cover(&name("b.example", "team/app")) && !logins.cover(&name("c.example", "x")));
        }
    }
}
