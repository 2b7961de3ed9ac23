//! What images of other registries are called in this one.
//!
//! Always holds: one image has all of these names, since `f/<registry>/` and prefixes lead to the same content. Never
//! does: say what the name stands for that somebody wrote.

use trow_raft::RepoName;

use crate::pull::resolve::Resolver;
use crate::pull::{Host, ImageName};

/// A name of an upstream's image in this registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::admission) struct Here {
    pub(in crate::admission) name: ImageName,
    /// How many segments of it, our host included, say which upstream that is.
    below: usize,
}

impl Here {
    /// Whether a pattern is about this upstream in particular, and not about whatever has a name of ours:
    /// `trow.example.com/f/docker.io/**` is, `trow.example.com/**` and `trow.example.com/f/**` are not.
    pub(in crate::admission) fn is_meant_by(&self, pattern: &str) -> bool {
        let segments: Vec<&str> = pattern.split('/').collect();
        let Some(first) = segments.get(..self.below).filter(|first| first.len() < segments.len()) else {
            return false;
        };
        !first.contains(&"**") && first.get(1).is_some_and(|root| !root.contains('*'))
    }
}

/// The names of `image`, which is of another registry, by each of our `hosts`.
pub(super) fn names(resolver: &Resolver, hosts: &[Host], image: &ImageName) -> Vec<Here> {
    // `library/` may be left out.
    let whole = image.path.as_str();
    let short = whole.strip_prefix("library/").filter(|_| image.host.is_docker());
    let local = image.host.local_prefix();
    let roots =
        std::iter::once(local.trim_end_matches('/').to_owned()).chain(resolver.prefixes_of(&image.host));
    let mut names = Vec::new();
    for root in roots {
        let below = 2 + root.matches('/').count();
        for path in std::iter::once(whole).chain(short) {
            // One that is too long is nobody's name.
            let Ok(path) = format!("{root}/{path}").parse::<RepoName>() else { continue };
            let at = |host: &Host| ImageName { host: host.clone(), path: path.clone(), ..image.clone() };
            names.extend(hosts.iter().map(|host| Here { name: at(host), below }));
        }
    }
    names
}
