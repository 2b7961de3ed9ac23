//! Looks at the signatures of one image, in both forms at once, and within bounds.
//!
//! Always holds: a signature that is found counts, whatever else could not be read; that there is none is said only
//! when all of both forms was read. Never does: take longer for an image that has more signatures than it looks at.

use std::collections::BTreeSet;

use trow_raft::Digest;

use super::place::{Place, Unread, too_many};
use super::{Named, NotOne, PublicKey, SIGNATURES_MAX, Signed, bundle, simple};

/// Bytes that are read of payloads and bundles, for an image in either form.
const BYTES_MAX: u64 = 2 << 20;

/// The keys that are asked about, by name.
pub(super) type Keys = [(String, PublicKey)];

/// The names of the keys that signed the image, ascending.
///
/// # Errors
/// None did as far as is known, and not everything could be read.
pub(super) async fn signed_by(place: &Place, image: &Digest, keys: &Keys) -> Result<Vec<String>, Unread> {
    let (mut by_tag, mut by_referrers) = (Found::new(image, keys), Found::new(image, keys));
    let both = futures::future::join(by_tag.tagged(place), by_referrers.referrers(place)).await;
    let names: BTreeSet<_> = by_tag.names.into_iter().chain(by_referrers.names).collect();
    if names.is_empty() {
        both.0.and(both.1)?;
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// What was found in one form.
struct Found<'a> {
    image: &'a Digest,
    keys: &'a Keys,
    names: BTreeSet<&'a str>,
    /// Bytes that may still be read.
    left: u64,
}

impl<'a> Found<'a> {
    fn new(image: &'a Digest, keys: &'a Keys) -> Self {
        Found { image, keys, names: BTreeSet::new(), left: BYTES_MAX }
    }

    fn all(&self) -> bool {
        self.names.len() == self.keys.len()
    }

    /// Takes what the manifest under the tag lists.
    async fn tagged(&mut self, place: &Place) -> Result<(), Unread> {
        let Some(tag) = simple::tag(self.image) else { return Ok(()) };
        let Some(manifest) = place.tagged(&tag).await? else { return Ok(()) };
        let Ok(listed) = simple::signatures(&manifest) else { return Ok(()) };
        let mut unread = listed.more.then(too_many);
        // Of the same image by several keys the payload is one.
        let mut last: Option<(Digest, bytes::Bytes)> = None;
        for (named, signature) in &listed.signatures {
            if self.all() {
                break;
            }
            let payload = match &last {
                Some((digest, payload)) if *digest == named.digest => Ok(Some(payload.clone())),
                _ => self.read(place, named).await,
            };
            match payload {
                Ok(Some(payload)) => {
                    self.take(simple::signed(&payload, named, signature, self.image));
                    last = Some((named.digest, payload));
                }
                Ok(None) => {}
                Err(why) => unread = Some(why),
            }
            // Checking takes its time too.
            tokio::task::yield_now().await;
        }
        unread.map_or(Ok(()), Err)
    }

    /// Takes the bundles that refer to the image.
    async fn referrers(&mut self, place: &Place) -> Result<(), Unread> {
        let listed = place.referrers(self.image).await?;
        let mut unread = listed.incomplete;
        if listed.digests.len() > SIGNATURES_MAX {
            unread.get_or_insert_with(too_many);
        }
        for digest in listed.digests.iter().take(SIGNATURES_MAX) {
            if self.all() {
                break;
            }
            if let Err(why) = self.referrer(place, digest).await {
                unread = Some(why);
            }
            tokio::task::yield_now().await;
        }
        unread.map_or(Ok(()), Err)
    }

    async fn referrer(&mut self, place: &Place, digest: &Digest) -> Result<(), Unread> {
        let Some(manifest) = place.manifest(digest).await? else { return Ok(()) };
        let Ok(named) = bundle::content(&manifest) else { return Ok(()) };
        if let Some(bundle) = self.read(place, &named).await? {
            self.take(bundle::signed(&bundle, &named, self.image));
        }
        Ok(())
    }

    async fn read(&mut self, place: &Place, named: &Named) -> Result<Option<bytes::Bytes>, Unread> {
        let left = self.left.checked_sub(named.size);
        self.left = left.ok_or_else(|| "its signatures are longer than what is read of them".to_owned())?;
        place.blob(named).await
    }

    /// Notes whose signature it is.
    fn take(&mut self, signed: Result<Signed, NotOne>) {
        let signed = match signed {
            Ok(signed) => signed,
            Err(why) => return tracing::debug!(image = %self.image, %why, "passed over"),
        };
        for (name, key) in self.keys {
            if !self.names.contains(name.as_str()) && key.verifies(&signed.message, &signed.signature) {
                self.names.insert(name);
            }
        }
    }
}
