//! Small images to push: a configuration, layers, and the manifest that names them.

use bytes::Bytes;
use serde_json::json;
use trow_raft::Digest;

use crate::client::{Answer, Client, Unknown};
use crate::content::Content;

/// The media type of an OCI image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image that no other is like.
#[derive(Clone, Debug)]
pub struct Image {
    /// The blobs, the configuration first.
    pub blobs: Vec<(Digest, Content)>,
    /// The manifest's exact bytes.
    pub manifest: Bytes,
    /// Its digest.
    pub digest: Digest,
}

impl Image {
    /// An image with a layer of each of these lengths.
    pub fn random(layers: &[u64]) -> Self {
        let contents = std::iter::once(64).chain(layers.iter().copied()).map(Content::random);
        let blobs: Vec<(Digest, Content)> = contents.map(|content| (content.digest(), content)).collect();
        let manifest = Bytes::from(manifest(&blobs).to_string());
        Image { digest: Digest::sha256(&manifest), blobs, manifest }
    }

    /// Pushes blobs and manifest, and stops at the first answer that is not 201.
    ///
    /// # Errors
    /// A request whose outcome is not known.
    pub async fn push(&self, client: &Client, repo: &str, reference: &str) -> Result<Answer, Unknown> {
        for (digest, content) in &self.blobs {
            let answer = client.push_blob(repo, *content, digest).await?;
            if answer.status != 201 {
                return Ok(answer);
            }
        }
        client.put_manifest(repo, reference, MANIFEST, self.manifest.clone()).await
    }
}

fn manifest(blobs: &[(Digest, Content)]) -> serde_json::Value {
    let descriptor = |media: &str, (digest, content): &(Digest, Content)| json!({"mediaType": media, "digest": digest.to_string(), "size": content.len()});
    let layer = "application/vnd.oci.image.layer.v1.tar";
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &blobs[0]),
        "layers": blobs[1..].iter().map(|blob| descriptor(layer, blob)).collect::<Vec<_>>(),
    })
}
