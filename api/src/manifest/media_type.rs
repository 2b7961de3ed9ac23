//! The media types of manifests, and what they say about a document's shape.

/// What shape a manifest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A config and layers.
    Image,
    /// A list of manifests.
    Index,
    /// A list of blobs: the artifact manifest of image-spec 1.1's release candidates.
    Artifact,
}

const KNOWN: [(&str, Kind); 5] = [
    ("application/vnd.oci.image.manifest.v1+json", Kind::Image),
    (INDEX, Kind::Index),
    ("application/vnd.docker.distribution.manifest.v2+json", Kind::Image),
    ("application/vnd.docker.distribution.manifest.list.v2+json", Kind::Index),
    ("application/vnd.oci.artifact.manifest.v1+json", Kind::Artifact),
];

/// The OCI image index, which the referrers API answers with.
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The type that is served for `text`, and its shape.
pub(super) fn known(text: &str) -> Option<(&'static str, Kind)> {
    KNOWN.iter().copied().find(|(name, _)| *name == text)
}

/// Whether what a descriptor of this type names may be a manifest: one without a type may.
pub(super) fn may_be_manifest(text: &str) -> bool {
    text.is_empty() || known(text).is_some()
}

/// Layers that registries need not have.
pub(super) fn is_nondistributable(text: &str) -> bool {
    text.starts_with("application/vnd.oci.image.layer.nondistributable.")
        || text == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
}
