//! The older form: a manifest under the tag `sha256-<hex>.sig`, each of whose layers is a payload ("simple signing")
//! with the signature in an annotation. Defined by cosign's `specs/SIGNATURE_SPEC.md`.
//!
//! The payload's `docker-reference` is not compared with anything: it is the name under which the image was signed,
//! and images are signed in one registry and run from another. Annotations beside it mean nothing here either.

use std::collections::BTreeMap;

use serde::Deserialize;
use trow_raft::{Digest, Tag};

use super::{Named, NotOne, SIGNATURE_MAX, SIGNATURES_MAX, Signed, base64};
use crate::manifest::json::{Others, check_unambiguous};

/// The type of such a layer.
const LAYER: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation that has the signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// What the payload says that it is.
const TYPE: &str = "cosign container image signature";
/// Longest payload, in bytes; cosign's have some 250, and what the signer adds.
pub(super) const PAYLOAD_MAX: u64 = 64 * 1024;

/// The tag under which the signatures of an image are.
pub(super) fn tag(image: &Digest) -> Option<Tag> {
    format!("{}-{}.sig", image.algorithm().as_str(), image.hex()).parse().ok()
}

/// Signatures that a manifest lists.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Where the payload is, and a signature of it; the one that was added last comes first.
    pub(crate) signatures: Vec<(Named, Vec<u8>)>,
    /// There are more than are looked at.
    pub(crate) more: bool,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
    #[serde(flatten)]
    _others: Others,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    _others: Others,
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
    #[serde(flatten)]
    _others: Others,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    is: String,
    #[serde(flatten)]
    _others: Others,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
    #[serde(flatten)]
    _others: Others,
}

/// What the manifest under the tag lists; what cannot be one is left out.
pub(crate) fn signatures(manifest: &[u8]) -> Result<Listed, NotOne> {
    check_unambiguous(manifest).map_err(|_| NotOne("the manifest is not JSON with each key once"))?;
    let manifest: Manifest =
        serde_json::from_slice(manifest).map_err(|_| NotOne("the manifest does not list layers"))?;
    let mut listed = Listed::default();
    for layer in manifest.layers.iter().rev().filter(|layer| layer.media_type == LAYER) {
        let signature = layer.annotations.get(SIGNATURE).and_then(|text| base64(text, SIGNATURE_MAX));
        let (Some(signature), Ok(digest)) = (signature, layer.digest.parse()) else { continue };
        if layer.size > PAYLOAD_MAX {
            continue;
        }
        if listed.signatures.len() == SIGNATURES_MAX {
            listed.more = true;
            break;
        }
        listed.signatures.push((Named { digest, size: layer.size }, signature));
    }
    Ok(listed)
}

/// What is signed if `payload`, whose digest must be `named`, is about the image.
pub(crate) fn signed(
    payload: &[u8],
    named: &Named,
    signature: &[u8],
    image: &Digest,
) -> Result<Signed, NotOne> {
    if payload.len() as u64 != named.size || named.size > PAYLOAD_MAX {
        return Err(NotOne("the payload has another size, or is too long"));
    }
    if Digest::of(named.digest.algorithm(), payload) != named.digest {
        return Err(NotOne("the payload has another digest"));
    }
    check_unambiguous(payload).map_err(|_| NotOne("the payload is not JSON with each key once"))?;
    let Payload { critical, .. } =
        serde_json::from_slice(payload).map_err(|_| NotOne("the payload does not name an image"))?;
    if critical.is != TYPE {
        return Err(NotOne("the payload is of another type"));
    }
    if critical.image.digest.parse() != Ok(*image) {
        return Err(NotOne("the payload is about another image"));
    }
    Ok(Signed { message: payload.to_vec(), signature: signature.to_vec() })
}
