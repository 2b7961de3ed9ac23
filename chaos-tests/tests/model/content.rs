//! What one run pushes: repositories, blobs and manifests that no other run has.
//!
//! Everything is named by small numbers, so that random requests meet, and follows from the run's own
//! number, so that a run can be repeated.

use bytes::Bytes;
use serde_json::{Value, json};
use trow_raft::{Algorithm, Digest};

/// How many of each there are.
pub const REPOS: u8 = 2;
pub const BLOBS: u8 = 4;
pub const MANIFESTS: u8 = 6;
pub const TAGS: u8 = 4;

pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The blob that is the configuration of every image.
const CONFIG: u8 = 0;
/// How long the blobs are: less than a buffer, more than one, and more than a chunk on disk.
const LENGTHS: [usize; BLOBS as usize] = [64, 1_000, 70_001, 300_000];

/// The content of one run.
#[derive(Debug)]
pub struct Content {
    run: usize,
    blobs: Vec<(Bytes, Digest)>,
    /// Those that are named before those that name them.
    manifests: Vec<(Bytes, Digest)>,
}

impl Content {
    pub fn of(run: usize) -> Self {
        let mut content = Content { run, blobs: Vec::new(), manifests: Vec::new() };
        for (blob, len) in (0..BLOBS).zip(LENGTHS) {
            let line = format!("blob {blob} of run {run}\n");
            let mut bytes = line.repeat(len / line.len() + 1).into_bytes();
            bytes.truncate(len);
            let algorithm = if blob == 2 { Algorithm::Sha512 } else { Algorithm::Sha256 };
            content.blobs.push((Bytes::from(bytes.clone()), Digest::of(algorithm, &bytes)));
        }
        for manifest in 0..MANIFESTS {
            let bytes = Bytes::from(content.document(manifest).to_string());
            content.manifests.push((bytes.clone(), Digest::sha256(&bytes)));
        }
        content
    }

    /// Above all repositories of earlier runs and below those of this one.
    pub fn prefix(&self) -> String {
        format!("run{:05}/", self.run)
    }

    pub fn repo(&self, repo: u8) -> String {
        format!("{}r{repo}", self.prefix())
    }

    pub fn blob(&self, blob: u8) -> Bytes {
        self.blobs[usize::from(blob)].0.clone()
    }

    pub fn blob_digest(&self, blob: u8) -> Digest {
        self.blobs[usize::from(blob)].1
    }

    pub fn manifest(&self, manifest: u8) -> Bytes {
        self.manifests[usize::from(manifest)].0.clone()
    }

    pub fn digest(&self, manifest: u8) -> Digest {
        self.manifests[usize::from(manifest)].1
    }

    fn document(&self, manifest: u8) -> Value {
        let children: Vec<Value> = children(manifest).iter().map(|child| self.descriptor(*child)).collect();
        let mut document = json!({"schemaVersion": 2, "mediaType": media_type(manifest)});
        if !children.is_empty() {
            document["manifests"] = Value::from(children);
        }
        if let [config, layers @ ..] = blobs(manifest) {
            document["config"] = self.blob_descriptor("application/vnd.oci.image.config.v1+json", *config);
            let layer = |layer: &u8| self.blob_descriptor("application/vnd.oci.image.layer.v1.tar", *layer);
            document["layers"] = layers.iter().map(layer).collect();
        }
        if let Some(kind) = artifact_type(manifest) {
            document["artifactType"] = json!(kind);
        }
        if let Some(subject) = subject(manifest) {
            document["subject"] = self.descriptor(subject);
        }
        document["annotations"] = json!({"run": format!("{manifest} of {}", self.run)});
        document
    }

    fn blob_descriptor(&self, media: &str, blob: u8) -> Value {
        json!({"mediaType": media, "digest": self.blob_digest(blob), "size": self.blob(blob).len()})
    }

    fn descriptor(&self, manifest: u8) -> Value {
        let media = media_type(manifest);
        json!({"mediaType": media, "digest": self.digest(manifest), "size": self.manifest(manifest).len()})
    }
}

/// The blobs that a manifest names, the configuration first.
pub fn blobs(manifest: u8) -> &'static [u8] {
    match manifest {
        0 => &[CONFIG, 1],
        1 => &[CONFIG, 2],
        2 => &[CONFIG, 3, 1],
        4 => &[CONFIG, 1],
        _ => &[],
    }
}

/// The manifests that a manifest names: those of an index.
pub fn children(manifest: u8) -> &'static [u8] {
    match manifest {
        3 => &[0, 1],
        5 => &[2],
        _ => &[],
    }
}

/// The manifest that a manifest refers to, which need not be there.
pub fn subject(manifest: u8) -> Option<u8> {
    matches!(manifest, 4 | 5).then_some(0)
}

pub fn artifact_type(manifest: u8) -> Option<&'static str> {
    match manifest {
        4 => Some("application/vnd.example.signature"),
        5 => Some("application/vnd.example.list"),
        _ => None,
    }
}

pub fn media_type(manifest: u8) -> &'static str {
    if children(manifest).is_empty() { IMAGE } else { INDEX }
}

pub fn tag(tag: u8) -> String {
    // In byte order, which is not that of a dictionary.
    ["0.1", "Z", "_x", "a"][usize::from(tag)].to_owned()
}
