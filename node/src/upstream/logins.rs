//! For which repositories there ever were credentials.
//!
//! Always holds: what was fetched with a login stays for known users when the login is taken away, which is when
//! it matters most; `public = true` is how an operator says otherwise. Kept in a file, so that a restart forgets
//! nothing, and learned from the other members, so that one that joins later knows as well. While it is not known
//! all are taken to have had credentials. Never does: hold a secret, or ask.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use trow_api::pull::UpstreamName;

use crate::follow;

/// The file's name in the data directory.
const FILE: &str = "upstream-logins.json";
/// Places that are remembered; configurations have few. Beyond it all count as having had credentials.
const PLACES_MAX: usize = 2000;

/// The places, each a registry or a path below one.
#[derive(Default)]
pub(super) struct Logins {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    dir: Option<PathBuf>,
    places: BTreeSet<String>,
    lacks: Option<Lacks>,
}

/// Why it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lacks {
    /// This node is new, and nobody told it.
    Word,
    /// Its file cannot be read.
    File,
}

/// What a node knows of it, for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// Whether these are all that it should know.
    pub is_known: bool,
    /// Each a registry or a path below one.
    pub places: BTreeSet<String>,
}

impl Logins {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on they are kept in this directory too, beside those that are there. Without a file there it is
    /// not known until others were [heard](Self::hear).
    pub(super) fn keep_in(&self, dir: &Path) {
        let mut kept = self.lock();
        let path = dir.join(FILE);
        let there = path.exists().then(|| {
            follow::read(&path).and_then(|bytes| {
                serde_json::from_slice::<BTreeSet<String>>(&bytes).map_err(|error| error.to_string())
            })
        });
        kept.dir = Some(dir.to_owned());
        match there {
            Some(Ok(there)) => {
                kept.places.extend(there);
                kept.write();
            }
            Some(Err(why)) => {
                tracing::error!(path = %path.display(), why, "it is not known which upstreams there were credentials for, and images of all of them are given to users alone until another member says; without one mend the file, or purge what is private and remove it, and start the node again");
                kept.lacks = Some(Lacks::File);
            }
            None => kept.lacks = Some(Lacks::Word),
        }
    }

    /// There are credentials for these places now.
    pub(super) fn learn(&self, places: impl Iterator<Item = String>) {
        self.lock().add(places);
    }

    /// What is known, for another node.
    pub(super) fn places(&self) -> Places {
        let kept = self.lock();
        Places { is_known: kept.lacks.is_none(), places: kept.places.clone() }
    }

    /// What other members know; `all` of them say so. One that knows is enough; if none does, and all are new,
    /// there is nothing to know.
    pub(super) fn hear(&self, said: Vec<Places>, all: bool) {
        let mut kept = self.lock();
        let is_known = said.iter().any(|places| places.is_known);
        let is_new = kept.lacks == Some(Lacks::Word);
        kept.add(said.into_iter().flat_map(|places| places.places));
        if kept.lacks.is_some() && (is_known || is_new && all) {
            kept.lacks = None;
            kept.write();
        }
    }

    /// Whether it is known.
    pub(super) fn is_known(&self) -> bool {
        self.lock().lacks.is_none()
    }

    /// Whether there ever were credentials for anything.
    pub(super) fn any(&self) -> bool {
        let kept = self.lock();
        kept.lacks.is_some() || !kept.places.is_empty()
    }

    /// Whether there ever were credentials for the repository.
    pub(super) fn cover(&self, name: &UpstreamName) -> bool {
        let kept = self.lock();
        if kept.lacks.is_some() || kept.places.len() >= PLACES_MAX {
            return true;
        }
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
    fn add(&mut self, places: impl Iterator<Item = String>) {
        let before = self.places.len();
        for place in places {
            if self.places.len() < PLACES_MAX {
                self.places.insert(place);
            }
        }
        if self.places.len() > before {
            self.write();
        }
    }

    fn write(&self) {
        // A file says that these are all.
        let Some(dir) = self.dir.as_ref().filter(|_| self.lacks.is_none()) else { return };
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
        logins.hear(Vec::new(), true);
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

    fn said(is_known: bool, places: &[&str]) -> Places {
        Places { is_known, places: places.iter().map(|place| (*place).to_owned()).collect() }
    }

    #[test]
    fn a_new_node_takes_all_for_private_until_it_heard_from_one_that_knows_or_from_all() {
        let (public, private) = (name("a.example", "x"), name("b.example", "x"));
        let new = || {
            let (logins, dir) = (Logins::default(), tempfile::tempdir().unwrap());
            logins.keep_in(dir.path());
            assert!(logins.cover(&public) && logins.any() && !logins.is_known());
            (logins, dir)
        };
        let (logins, dir) = new();
        logins.hear(vec![said(false, &["b.example"])], false);
        assert!(logins.cover(&public) && !logins.places().is_known, "somebody else may know more");
        // A crash now leaves it as new as it was.
        let again = Logins::default();
        again.keep_in(dir.path());
        assert!(again.cover(&public));
        logins.hear(vec![said(true, &[]), said(false, &[])], false);
        for logins in [&logins, &Logins::default()] {
            logins.keep_in(dir.path());
            assert!(!logins.cover(&public) && logins.cover(&private) && logins.is_known());
            assert_eq!(logins.places(), said(true, &["b.example"]));
        }
        let (logins, dir) = new();
        logins.hear(vec![said(false, &[])], true);
        assert!(!logins.cover(&public) && !logins.any() && logins.is_known());
        let again = Logins::default();
        again.keep_in(dir.path());
        assert!(again.is_known() && !again.any(), "that there were none is known after a restart");
    }

    #[test]
    fn who_lost_its_file_needs_one_that_knows_and_too_many_places_are_all() {
        let (dir, public) = (tempfile::tempdir().unwrap(), name("a.example", "x"));
        std::fs::write(dir.path().join(FILE), "[\"b.exam").unwrap();
        let logins = Logins::default();
        logins.keep_in(dir.path());
        logins.hear(vec![said(false, &[])], true);
        assert!(logins.cover(&public), "nobody knows what was in it");
        logins.hear(vec![said(true, &["b.example"])], false);
        assert!(!logins.cover(&public) && logins.cover(&name("b.example", "x")));
        logins.learn((0..PLACES_MAX).map(|n| format!("c{n}.example")));
        assert!(logins.cover(&public) && logins.places().places.len() == PLACES_MAX);
    }
}
