//! Reads a manifest once, at the edge: image-spec's "Image Manifest" and "Image Index", and
//! Docker's schema 2.
//!
//! What comes out is everything apply needs, so that it parses nothing. A document is refused
//! when two readers could understand it differently.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use trow_raft::Digest;
use trow_raft::command::NewManifest;

use super::json::{Others, check_unambiguous, mistaken};
use super::media_type::{self, Kind};
use crate::error::{Error, Problem};
use crate::route::shown;

/// A manifest and what it says of sizes.
#[derive(Debug)]
pub struct Parsed {
    /// As apply takes it.
    pub manifest: NewManifest,
    /// The size that descriptors give for what they name, each digest once.
    pub sizes: BTreeMap<Digest, u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<serde_json::Value>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    blobs: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    others: Others,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: serde_json::Number,
    #[serde(default)]
    urls: Option<Vec<String>>,
    #[serde(flatten)]
    others: Others,
}

/// The keys that decide what a descriptor names.
const DESCRIPTOR_KEYS: [&str; 4] = ["mediaType", "digest", "size", "urls"];

/// The keys that decide what a document is.
const KEYS: [&str; 9] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "blobs",
    "subject",
    "annotations",
];

/// Reads `bytes`, whose digest is `digest`, pushed with this `Content-Type`.
///
/// # Errors
/// `ManifestInvalid`; `DigestInvalid` and `SizeInvalid` for what a descriptor says.
pub fn parse(digest: Digest, content_type: Option<&str>, bytes: Bytes) -> Result<Parsed, Error> {
    let malformed = |why: serde_json::Error| {
        invalid(format!("the manifest is not valid JSON: {why}"))
            .detail(json!({ "line": why.line(), "column": why.column() }))
    };
    check_unambiguous(&bytes).map_err(malformed)?;
    let document: Document = serde_json::from_slice(&bytes).map_err(malformed)?;
    check_case(&document.others, &KEYS)?;
    let (media_type, kind) = media_type_of(content_type, document.media_type.as_deref())?;
    check_shape(kind, &document).map_err(|error| error.detail(json!({ "mediaType": media_type })))?;

    let mut references = References::default();
    let config_type = document.config.as_ref().map(|config| config.media_type.clone());
    for blob in
        document.config.iter().chain(document.layers.iter().flatten()).chain(document.blobs.iter().flatten())
    {
        references.blob(blob)?;
    }
    for child in document.manifests.iter().flatten() {
        // An index may list blobs too (build caches do); what cannot be a manifest is one.
        if media_type::may_be_manifest(&child.media_type) {
            references.child(child)?;
        } else {
            references.blob(child)?;
        }
    }
    let subject = match &document.subject {
        Some(subject) => Some(references.note(subject)?),
        None => None,
    };

    let nonempty = |text: Option<String>| text.filter(|text| !text.is_empty());
    let artifact_type = nonempty(document.artifact_type).or_else(|| nonempty(config_type));
    let descriptor = subject.map(|_| {
        let mut descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        if let Some(artifact_type) = &artifact_type {
            descriptor["artifactType"] = json!(artifact_type);
        }
        if let Some(annotations) = document.annotations.filter(|all| !all.is_empty()) {
            descriptor["annotations"] = json!(annotations);
        }
        Bytes::from(descriptor.to_string())
    });
    // A manifest cannot name itself; were it so, it could never be pushed, and never be missing.
    let References { blobs, children, sizes } = references;
    let manifest = NewManifest {
        digest,
        media_type: media_type.to_owned(),
        artifact_type,
        bytes,
        blobs: blobs.into_iter().collect(),
        children: children.into_iter().collect(),
        subject,
        descriptor,
    };
    Ok(Parsed { manifest, sizes })
}

/// The annotations of a manifest that was accepted once; none for anything else.
pub(crate) fn annotations(bytes: &[u8]) -> BTreeMap<String, String> {
    let document = serde_json::from_slice(bytes);
    document.ok().and_then(|document: Document| document.annotations).unwrap_or_default()
}

fn invalid(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Problem::ManifestInvalid, why)
}

/// Some readers match keys whatever their case; a second spelling of a key we know is a trap.
fn check_case(others: &Others, known: &[&str]) -> Result<(), Error> {
    match mistaken(others, known) {
        Some(key) => {
            Err(invalid("a key differs from a known one only in case").detail(json!({ "key": shown(key) })))
        }
        None => Ok(()),
    }
}

fn media_type_of(content_type: Option<&str>, declared: Option<&str>) -> Result<(&'static str, Kind), Error> {
    let content_type = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    let content_type = content_type.filter(|text| !text.is_empty());
    let declared = declared.filter(|text| !text.is_empty());
    if let (Some(outside), Some(inside)) = (content_type, declared)
        && outside != inside
    {
        return Err(invalid("Content-Type and the manifest's mediaType differ")
            .detail(json!({ "contentType": shown(outside), "mediaType": shown(inside) })));
    }
    let text = content_type.or(declared).ok_or_else(|| {
        invalid("say the manifest's type in Content-Type").detail(json!({ "header": "Content-Type" }))
    })?;
    media_type::known(text).ok_or_else(|| {
        invalid("not a manifest type that is supported: push OCI manifests and indexes or Docker schema 2")
            .detail(json!({ "mediaType": shown(text) }))
    })
}

/// A document that is an image to one reader and an index to another is refused.
fn check_shape(kind: Kind, document: &Document) -> Result<(), Error> {
    let version = document.schema_version.as_ref();
    if version.is_some_and(|version| version.as_u64() != Some(2)) {
        return Err(invalid("schemaVersion must be 2"));
    }
    let image = document.config.is_some() || document.layers.is_some();
    match kind {
        Kind::Index if image || document.blobs.is_some() => {
            Err(invalid("an index has no config, layers or blobs"))
        }
        Kind::Image if document.manifests.is_some() || document.blobs.is_some() => {
            Err(invalid("an image manifest has no manifests or blobs"))
        }
        Kind::Artifact if image || document.manifests.is_some() => {
            Err(invalid("an artifact manifest has no config, layers or manifests"))
        }
        Kind::Image if document.config.is_none() => Err(invalid("an image manifest has a config")),
        _ => Ok(()),
    }
}

/// What a manifest names, as sets.
#[derive(Default)]
struct References {
    blobs: BTreeSet<Digest>,
    children: BTreeSet<Digest>,
    sizes: BTreeMap<Digest, u64>,
}

impl References {
    fn blob(&mut self, descriptor: &Descriptor) -> Result<(), Error> {
        let digest = self.note(descriptor)?;
        let elsewhere = descriptor.urls.as_ref().is_some_and(|urls| !urls.is_empty());
        if !elsewhere && !media_type::is_nondistributable(&descriptor.media_type) {
            self.blobs.insert(digest);
        }
        Ok(())
    }

    fn child(&mut self, descriptor: &Descriptor) -> Result<(), Error> {
        let digest = self.note(descriptor)?;
        self.children.insert(digest);
        Ok(())
    }

    fn note(&mut self, descriptor: &Descriptor) -> Result<Digest, Error> {
        check_case(&descriptor.others, &DESCRIPTOR_KEYS)?;
        let digest = crate::route::parse_digest(&descriptor.digest)?;
        let size = descriptor.size.as_u64().filter(|size| i64::try_from(*size).is_ok()).ok_or_else(|| {
            invalid("a descriptor's size must be a number of bytes, from 0 to 2^63 - 1")
                .detail(json!({ "digest": digest, "size": descriptor.size }))
        })?;
        match self.sizes.insert(digest, size) {
            Some(other) if other != size => Err(size_differs(&digest, size, other)),
            _ => Ok(digest),
        }
    }
}

/// 400: the manifest says `size` where `known` is right.
pub(super) fn size_differs(digest: &Digest, size: u64, known: u64) -> Error {
    Error::new(Problem::SizeInvalid, "a descriptor gives another size than the content has")
        .detail(json!({ "digest": digest, "size": size, "known": known }))
}

#[cfg(test)]
mod tests;
