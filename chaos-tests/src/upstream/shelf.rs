//! What the upstream has.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::{Value, json};
use trow_raft::Digest;

use crate::content::Content;
use crate::image::MANIFEST;

/// Bytes that it has.
#[derive(Clone, Debug)]
pub enum Object {
    /// Made as they are sent.
    Made(Content),
    /// As they are.
    Plain(Bytes),
}

impl Object {
    /// How many.
    pub fn len(&self) -> u64 {
        match self {
            Object::Made(content) => content.len(),
            Object::Plain(bytes) => bytes.len() as u64,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those in the range, in pieces of at most 64 KiB.
    pub(super) fn part(&self, range: Range<u64>) -> Box<dyn Iterator<Item = Bytes> + Send> {
        match self {
            Object::Made(content) => Box::new(content.part(range)),
            Object::Plain(bytes) => {
                let bytes = bytes.slice(range.start as usize..range.end as usize);
                let steps = (0..bytes.len()).step_by(64 * 1024);
                Box::new(steps.map(move |at| bytes.slice(at..bytes.len().min(at + 64 * 1024))))
            }
        }
    }
}

/// A manifest.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    pub(super) media: String,
    pub(super) bytes: Bytes,
}

/// A repository.
#[derive(Debug, Default)]
struct Repository {
    blobs: BTreeMap<String, Object>,
    manifests: BTreeMap<String, Manifest>,
    tags: BTreeMap<String, String>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    repositories: BTreeMap<String, Repository>,
}

impl Shelf {
    fn repository(&mut self, repo: &str) -> &mut Repository {
        self.repositories.entry(repo.to_owned()).or_default()
    }

    pub(super) fn blob(&mut self, repo: &str, digest: &Digest, object: Object) {
        self.repository(repo).blobs.insert(digest.to_string(), object);
    }

    pub(super) fn manifest(&mut self, repo: &str, tag: Option<&str>, bytes: Bytes) -> Digest {
        let digest = Digest::sha256(&bytes);
        let named = serde_json::from_slice(&bytes)
            .ok()
            .and_then(|json: Value| Some(json["mediaType"].as_str()?.to_owned()));
        let media = named.unwrap_or_else(|| MANIFEST.to_owned());
        let repository = self.repository(repo);
        repository.manifests.insert(digest.to_string(), Manifest { media, bytes });
        if let Some(tag) = tag {
            repository.tags.insert(tag.to_owned(), digest.to_string());
        }
        digest
    }

    pub(super) fn layout(&mut self, repo: &str, tag: &str, dir: &Path, top: &Digest) -> Result<()> {
        for entry in std::fs::read_dir(dir.join("blobs/sha256"))? {
            let bytes = Bytes::from(std::fs::read(entry?.path())?);
            let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            let digest = Digest::sha256(&bytes);
            if json["mediaType"].is_string() {
                self.manifest(repo, None, bytes);
            } else {
                self.blob(repo, &digest, Object::Plain(bytes));
            }
        }
        let repository = self.repository(repo);
        repository.manifests.get(&top.to_string()).context("the layout has no such manifest")?;
        repository.tags.insert(tag.to_owned(), top.to_string());
        Ok(())
    }

    pub(super) fn remove_tag(&mut self, repo: &str, tag: &str) {
        self.repository(repo).tags.remove(tag);
    }

    pub(super) fn find_blob(&self, repo: &str, digest: &str) -> Option<Object> {
        self.repositories.get(repo)?.blobs.get(digest).cloned()
    }

    /// A manifest and its digest.
    pub(super) fn find_manifest(&self, repo: &str, reference: &str) -> Option<(String, Manifest)> {
        let repository = self.repositories.get(repo)?;
        let digest = if reference.contains(':') { reference } else { repository.tags.get(reference)? };
        Some((digest.to_owned(), repository.manifests.get(digest)?.clone()))
    }

    /// A page of tags, and whether there are more.
    pub(super) fn tags(&self, repo: &str, n: usize, last: &str) -> Option<(Value, bool)> {
        let mut after = self.repositories.get(repo)?.tags.keys().filter(|tag| tag.as_str() > last);
        let page: Vec<&String> = after.by_ref().take(n).collect();
        Some((json!({"name": repo, "tags": page}), after.next().is_some()))
    }

    /// What refers to `subject`, as an index.
    pub(super) fn referrers(&self, repo: &str, subject: &str, artifact_type: Option<&str>) -> Value {
        let all = self.repositories.get(repo).into_iter().flat_map(|repository| &repository.manifests);
        let found = all.filter_map(|(digest, manifest)| {
            let json: Value = serde_json::from_slice(&manifest.bytes).ok()?;
            let of_type = json["artifactType"].as_str().or(json["config"]["mediaType"].as_str());
            let wanted = artifact_type.is_none() || artifact_type == of_type;
            (json["subject"]["digest"] == *subject && wanted).then(|| {
                json!({
                    "mediaType": manifest.media, "digest": digest, "size": manifest.bytes.len(),
                    "artifactType": of_type,
                })
            })
        });
        json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": found.collect::<Vec<_>>(),
        })
    }
}
