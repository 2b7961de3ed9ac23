//! The newer form: a referrer of the image whose one layer is a Sigstore bundle, with a DSSE envelope of an in-toto
//! statement about the image. What cosign 3 writes.
//!
//! Attestations have the same shape: whether it is a signature says the statement's predicate type, of the bytes
//! that are signed. Whose key it might be, or that it is in a log, a bundle may say as it likes: that is not read.

use std::collections::BTreeMap;

use serde::Deserialize;
use trow_raft::Digest;

use super::{Named, NotOne, SIGNATURE_MAX, Signed, base64};
use crate::manifest::json::{Others, check_unambiguous};

/// The type of the bundle, of its layer, and of the artifact.
pub(super) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The annotation in which cosign repeats the predicate type, so that attestations need not be fetched.
const PREDICATE: &str = "dev.sigstore.bundle.predicateType";
/// The predicate type of signatures of images.
const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// The payload type of the envelope.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// What the statement says that it is.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// Longest bundle, in bytes; cosign's have some 700, and up to 10,000 with what a log says.
pub(super) const BUNDLE_MAX: u64 = 256 * 1024;

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    _others: Others,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(flatten)]
    _others: Others,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    dsse_envelope: Envelope,
    #[serde(flatten)]
    _others: Others,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
    #[serde(flatten)]
    _others: Others,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
    #[serde(flatten)]
    _others: Others,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    is: String,
    subject: Vec<Subject>,
    predicate_type: String,
    #[serde(flatten)]
    _others: Others,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    digest: BTreeMap<String, String>,
    #[serde(flatten)]
    _others: Others,
}

/// Whether annotations, of a referrer or of its descriptor, leave open that it is a signature of the image.
pub(super) fn may_sign(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get(PREDICATE).is_none_or(|predicate| predicate == SIGN)
}

/// Where the bundle is that a referrer consists of.
pub(crate) fn content(manifest: &[u8]) -> Result<Named, NotOne> {
    check_unambiguous(manifest).map_err(|_| NotOne("the manifest is not JSON with each key once"))?;
    let manifest: Manifest =
        serde_json::from_slice(manifest).map_err(|_| NotOne("the manifest does not list layers"))?;
    if !may_sign(&manifest.annotations) {
        return Err(NotOne("the manifest is of an attestation"));
    }
    let [layer] = manifest.layers.as_slice() else { return Err(NotOne("the manifest is not of one bundle")) };
    let digest = layer.digest.parse();
    let (true, Ok(digest)) = (layer.media_type == BUNDLE, digest) else {
        return Err(NotOne("the manifest's layer is no bundle"));
    };
    if layer.size > BUNDLE_MAX {
        return Err(NotOne("the bundle is too long"));
    }
    Ok(Named { digest, size: layer.size })
}

/// What is signed if `bundle`, whose digest must be `named`, is about the image.
pub(crate) fn signed(bundle: &[u8], named: &Named, image: &Digest) -> Result<Signed, NotOne> {
    if bundle.len() as u64 != named.size || named.size > BUNDLE_MAX {
        return Err(NotOne("the bundle has another size, or is too long"));
    }
    if Digest::of(named.digest.algorithm(), bundle) != named.digest {
        return Err(NotOne("the bundle has another digest"));
    }
    check_unambiguous(bundle).map_err(|_| NotOne("the bundle is not JSON with each key once"))?;
    let Bundle { media_type, dsse_envelope: envelope, .. } =
        serde_json::from_slice(bundle).map_err(|_| NotOne("the bundle has no envelope"))?;
    if media_type != BUNDLE {
        return Err(NotOne("the bundle is of another type"));
    }
    if envelope.payload_type != IN_TOTO {
        return Err(NotOne("the envelope's payload is of another type"));
    }
    // More than one would leave open which counts; the bundle's definition allows one.
    let [Signature { sig, .. }] = envelope.signatures.as_slice() else {
        return Err(NotOne("the envelope has not one signature"));
    };
    let signature = base64(sig, SIGNATURE_MAX).ok_or(NotOne("the signature is not base64"))?;
    let payload = base64(&envelope.payload, bundle.len()).ok_or(NotOne("the payload is not base64"))?;
    about(&payload, image)?;
    Ok(Signed { message: authenticated(&envelope.payload_type, &payload), signature })
}

/// That the statement signs the image.
fn about(statement: &[u8], image: &Digest) -> Result<(), NotOne> {
    check_unambiguous(statement).map_err(|_| NotOne("the statement is not JSON with each key once"))?;
    let statement: Statement =
        serde_json::from_slice(statement).map_err(|_| NotOne("the payload is no statement"))?;
    if statement.predicate_type != SIGN {
        return Err(NotOne("the statement is an attestation"));
    }
    if statement.is != STATEMENT {
        return Err(NotOne("the statement is of another type"));
    }
    let hex = image.hex();
    let is_image = |subject: &Subject| subject.digest.get(image.algorithm().as_str()) == Some(&hex);
    if statement.subject.iter().any(is_image) {
        Ok(())
    } else {
        Err(NotOne("the statement is about another image"))
    }
}

/// The bytes that an envelope's signature is of: DSSE's "PAE", in which no part can be taken for another.
fn authenticated(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}
