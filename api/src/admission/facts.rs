//! Finding out what a rule needs to know about an image, from what serves pulls.
//!
//! Always holds: what cannot be found out in time is unknown, which denies; an answer is of the same state that a
//! pull at that moment would get. Never does: fetch blobs, or ask for what no rule needs.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};
use trow_raft::{Digest, Metadata, NodeId, RepoName, StateError, View};

use super::gate::Standing;
use super::names::Whose;
use crate::blobs::{Blobs, Held};
use crate::policy::{Copies, Fact, Facts, Needs};
use crate::pull::{ImageName, PullError, UpstreamName, Upstreams};
use crate::route::Reference;
use crate::signature::{Purpose, Repository, Verifier};

/// Blobs whose holders are asked for at the same time.
const AT_ONCE: usize = 16;
/// The most manifests that are looked for in an index and those that it lists: whoever may push decides how many those
/// are, and whoever may make a Pod how often they are looked for.
const MANIFESTS_MAX: usize = 1000;
/// The most blobs whose copies are looked for.
const BLOBS_MAX: usize = 10_000;

/// Where facts come from.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) metadata: Metadata,
    pub(super) blobs: Arc<dyn Blobs>,
    pub(super) upstreams: Arc<dyn Upstreams>,
    pub(super) signatures: Verifier,
}

/// An image whose facts are wanted: its name, and whose it is.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) image: &'a ImageName,
    pub(super) whose: &'a Whose,
}

impl Sources {
    /// What `needs` asks for by the policy that stands, by `deadline` at the latest.
    pub(super) async fn find(
        &self,
        purpose: Purpose,
        of: Of<'_>,
        standing: &Standing,
        needs: &Needs,
        deadline: Instant,
    ) -> Facts {
        let signed_by = self.signed_by(purpose, of, standing, &needs.signed_by);
        let (exists, digest, replicated, signed_by) = tokio::join!(
            wanted(needs.exists, deadline, self.exists(of)),
            wanted(needs.digest, deadline, self.tag(of)),
            wanted(needs.replicated, deadline, self.replicated(of)),
            wanted(!needs.signed_by.is_empty(), deadline, signed_by),
        );
        Facts { exists, digest, replicated, signed_by }
    }

    /// The digest that a pull gets.
    pub(super) async fn pulled(&self, of: Of<'_>, deadline: Instant) -> Fact<Option<Digest>> {
        wanted(true, deadline, async {
            match reference(of.image) {
                Some(reference) => self.resolve(of.whose, &reference).await,
                None => Ok(None),
            }
        })
        .await
    }

    async fn exists(&self, of: Of<'_>) -> Result<bool, String> {
        match reference(of.image) {
            Some(reference) => Ok(self.resolve(of.whose, &reference).await?.is_some()),
            None => Ok(false),
        }
    }

    /// Which of the policy's keys of these names signed what a pull gets.
    async fn signed_by(
        &self,
        purpose: Purpose,
        of: Of<'_>,
        standing: &Standing,
        names: &[String],
    ) -> Result<Vec<String>, String> {
        let repository = match of.whose {
            Whose::Own(repo) => Repository::Own(repo.clone()),
            Whose::Upstream(name) => Repository::Upstream(name.clone()),
            Whose::Elsewhere => return Err(too_long()),
        };
        let digest = match reference(of.image) {
            Some(Reference::Digest(digest)) => Some(digest),
            Some(tag) => self.resolve(of.whose, &tag).await?,
            None => None,
        };
        let digest = digest.ok_or("there is no such image")?;
        let keys: Vec<_> =
            standing.policy.keys().filter(|(key, _)| names.iter().any(|name| name == key)).collect();
        let revision = standing.revision.unwrap_or_default();
        match self.signatures.signed_by(purpose, &repository, &digest, revision, &keys).await {
            Fact::Known(names) => Ok(names),
            Fact::Unknown(why) => Err(why),
            Fact::NotAsked => Err("nobody looked".to_owned()),
        }
    }

    /// What the tag stands for, whatever digest is written beside it.
    async fn tag(&self, of: Of<'_>) -> Result<Option<Digest>, String> {
        match &of.image.tag {
            Some(tag) => self.resolve(of.whose, &Reference::Tag(tag.clone())).await,
            None => Ok(of.image.digest),
        }
    }

    /// The manifest that a pull of the reference gets.
    async fn resolve(&self, whose: &Whose, reference: &Reference) -> Result<Option<Digest>, String> {
        match whose {
            Whose::Own(repo) => own(&self.metadata.local(), repo, reference).map_err(failed),
            Whose::Upstream(name) => self.of_upstream(name, reference).await,
            Whose::Elsewhere => Err(too_long()),
        }
    }

    async fn of_upstream(
        &self,
        name: &UpstreamName,
        reference: &Reference,
    ) -> Result<Option<Digest>, String> {
        match self.upstreams.manifest(name, reference, true).await {
            Ok(pulled) => Ok(Some(pulled.digest)),
            Err(PullError::NotFound) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether every blob of the image is on all its owners that answer, and on so many that a write would be done.
    async fn replicated(&self, of: Of<'_>) -> Result<Copies, String> {
        let Whose::Own(repo) = of.whose else {
            return Err(
                "images of other registries are cached without a promise of copies: require it of images \
                        that are pushed here"
                    .to_owned(),
            );
        };
        let absent =
            || Copies::Missing("there is no such image: correct its name, or push it first".to_owned());
        let Some(reference) = reference(of.image) else { return Ok(absent()) };
        let (metadata, repo) = (self.metadata.clone(), repo.clone());
        // A long walk, in which nothing is waited for, is taken where it holds up no other work.
        let walk = tokio::task::spawn_blocking(move || blobs(&metadata.local(), &repo, &reference));
        let walked = walk.await.map_err(|_| "this node is stopping".to_owned())?;
        let blobs = match walked {
            Ok(Some(blobs)) => blobs,
            Ok(None) => return Ok(absent()),
            Err(TooMuch::State(cause)) => return Err(failed(cause)),
            Err(many) => return Err(many.to_string()),
        };
        let mut checks = stream::iter(blobs).map(|digest| self.copies(digest)).buffer_unordered(AT_ONCE);
        while let Some(copies) = checks.next().await {
            if let missing @ Copies::Missing(_) = copies.map_err(failed)? {
                return Ok(missing);
            }
        }
        Ok(Copies::Enough)
    }

    async fn copies(&self, digest: Digest) -> Result<Copies, StateError> {
        let (owners, needed) = {
            let view = self.metadata.local();
            if view.blob(&digest)?.is_none_or(|row| row.lost) {
                return Ok(Copies::Missing(format!("its blob {digest} is lost: push it again")));
            }
            let members = view.members()?;
            let name = |id: NodeId| members.iter().find(|m| m.id == id).map(|m| m.name.clone());
            let owners = view.partition(digest.partition())?.owners.into_iter().map(|owner| owner.node);
            let named = owners.map(|id| (id, name(id).unwrap_or_else(|| id.to_string())));
            (named.collect::<Vec<_>>(), view.write_quorum()?)
        };
        Ok(enough(&owners, &self.blobs.holders(&digest).await?, needed))
    }
}

/// Whether all of the owners that answer hold a blob, and at least as many as are needed. One that does not answer says
/// nothing: a node may be down without all that was pushed before being kept out.
fn enough(owners: &[(NodeId, String)], held: &Held, needed: usize) -> Copies {
    let names = |among: &dyn Fn(&NodeId) -> bool| {
        let names = owners.iter().filter(|(id, _)| among(id)).map(|(_, name)| name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let lacking = names(&|id| !held.by.contains(id) && !held.silent.contains(id));
    if !lacking.is_empty() {
        let why = format!("{lacking}, which should have it, does not have it yet: try again in a moment");
        return Copies::Missing(why);
    }
    let holding = owners.iter().filter(|(id, _)| held.by.contains(id)).count();
    if holding >= needed {
        return Copies::Enough;
    }
    let silent = names(&|id| held.silent.contains(id));
    let silent = if silent.is_empty() { String::new() } else { format!(", and {silent} does not answer") };
    Copies::Missing(format!(
        "{holding} of the {needed} nodes that must have it say so{silent}: try again in a moment; `trow cluster status` \
         says what is missing"
    ))
}

fn too_long() -> String {
    "its name is too long for it to be pulled through this registry".to_owned()
}

/// What is pulled by a name: of a tag and a digest the digest counts.
fn reference(image: &ImageName) -> Option<Reference> {
    match (&image.digest, &image.tag) {
        (Some(digest), _) => Some(Reference::Digest(*digest)),
        (None, tag) => tag.clone().map(Reference::Tag),
    }
}

/// The manifest that a name of ours stands for.
fn own(view: &View, repo: &RepoName, reference: &Reference) -> Result<Option<Digest>, StateError> {
    let digest = match reference {
        Reference::Digest(digest) => Some(*digest),
        Reference::Tag(tag) => view.tag(repo, tag)?.map(|row| row.digest),
    };
    let Some(digest) = digest else { return Ok(None) };
    Ok(view.manifest(repo, &digest)?.map(|_| digest))
}

/// Why it is not known which blobs an image has.
#[derive(Debug, thiserror::Error)]
enum TooMuch {
    #[error("it is an index of more than {MANIFESTS_MAX} manifests: require it of the images that it lists")]
    Manifests,
    #[error("it has more than {BLOBS_MAX} blobs: require it of the images that it lists")]
    Blobs,
    #[error(transparent)]
    State(#[from] StateError),
}

/// The blobs of a manifest, and of those manifests that it lists and that are here; none without the manifest.
fn blobs(view: &View, repo: &RepoName, reference: &Reference) -> Result<Option<BTreeSet<Digest>>, TooMuch> {
    let Some(root) = own(view, repo, reference)? else { return Ok(None) };
    let (mut seen, mut blobs) = (BTreeSet::from([root]), BTreeSet::new());
    let mut ahead = vec![root];
    while let Some(digest) = ahead.pop() {
        // What an index lists and is not here is pulled from nowhere, and needs no copies.
        let Some(row) = view.manifest(repo, &digest)? else { continue };
        blobs.extend(row.blobs);
        if blobs.len() > BLOBS_MAX {
            return Err(TooMuch::Blobs);
        }
        ahead.extend(row.children.into_iter().filter(|child| seen.insert(*child)));
        if seen.len() > MANIFESTS_MAX {
            return Err(TooMuch::Manifests);
        }
    }
    Ok(Some(blobs))
}

/// A state that cannot be read; the node's log has more.
fn failed(cause: StateError) -> String {
    tracing::error!(%cause, "a fact about an image could not be read from the state, so the image is denied; check the disk");
    "this node failed; its log says how".to_owned()
}

/// A fact, if it is needed, by the deadline.
async fn wanted<T>(
    needed: bool,
    deadline: Instant,
    find: impl Future<Output = Result<T, String>>,
) -> Fact<T> {
    if !needed {
        return Fact::NotAsked;
    }
    let late = || Fact::Unknown("it took too long; try again".to_owned());
    // Even one poll would begin what then goes on without anybody who waits for it.
    if Instant::now() >= deadline {
        return late();
    }
    match timeout_at(deadline, find).await {
        Ok(Ok(fact)) => Fact::Known(fact),
        Ok(Err(why)) => Fact::Unknown(why),
        Err(_) => late(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_node_that_is_down_keeps_no_image_out() {
        let owners: Vec<_> = (1..=3).map(|id| (NodeId(id), format!("n{id}"))).collect();
        let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect();
        let copies =
            |by: &[u64], silent: &[u64]| enough(&owners, &Held { by: ids(by), silent: ids(silent) }, 2);
        assert_eq!(copies(&[1, 2, 3], &[]), Copies::Enough);
        assert_eq!(copies(&[1, 3], &[2]), Copies::Enough);
        for (by, silent, says) in [
            (&[1, 3][..], &[][..], "n2, which should have it, does not have it yet"),
            (&[1], &[3], "n2, which should have it"),
            (&[1], &[2, 3], "1 of the 2 nodes that must have it say so, and n2, n3 does not answer"),
            // Copies elsewhere do not count.
            (&[1, 4, 5], &[2, 3], "1 of the 2 nodes"),
        ] {
            let Copies::Missing(why) = copies(by, silent) else { panic!("{by:?} are enough") };
            assert!(why.starts_with(says), "{why}");
        }
        let unplaced = enough(&[], &Held { by: ids(&[1]), silent: ids(&[]) }, 1);
        assert!(matches!(unplaced, Copies::Missing(_)));
    }

    #[tokio::test]
    async fn nothing_is_begun_after_the_deadline() {
        let begun = std::cell::Cell::new(0);
        let find = || async {
            begun.set(begun.get() + 1);
            Ok(true)
        };
        let passed = Instant::now();
        assert!(matches!(wanted(true, passed, find()).await, Fact::Unknown(_)));
        assert_eq!(begun.get(), 0);
        let ahead = passed + Duration::from_secs(60);
        assert_eq!(wanted(false, ahead, find()).await, Fact::NotAsked);
        assert_eq!(wanted(true, ahead, find()).await, Fact::Known(true));
        assert_eq!(begun.get(), 1);
    }
}
