//! What is pushed: blobs and manifests that depend on a few numbers alone.

use bytes::Bytes;
use http::{Method, StatusCode};
use rand::{RngCore as _, SeedableRng as _};
use trow_raft::Digest;

use super::connection::{Ask, Connection, Reply};

/// The media type of what is pushed.
pub(super) const MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const OCTETS: &str = "application/octet-stream";

/// Bytes under their digest.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) bytes: Bytes,
}

impl Blob {
    pub(super) fn of(bytes: impl Into<Bytes>) -> Blob {
        let bytes = bytes.into();
        Blob { digest: Digest::sha256(&bytes), bytes }
    }

    /// `length` bytes that do not compress, the same for the same seed.
    pub(super) fn random(length: usize, seed: u64) -> Blob {
        let mut bytes = vec![0; length];
        rand::rngs::StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
        Blob::of(bytes)
    }

    pub(super) fn path(&self, repository: &str) -> String {
        format!("/v2/{repository}/blobs/{}", self.digest)
    }

    /// Pushes it in two requests, as clients do.
    pub(super) async fn push(&self, connection: &mut Connection, repository: &str) -> Result<(), String> {
        let start = format!("/v2/{repository}/blobs/uploads/");
        let started =
            connection.ask(Ask::new(Method::POST, &start)).await.map_err(|error| error.to_string())?;
        is(&started, StatusCode::ACCEPTED)?;
        let path = closing(&started, &self.digest).ok_or("the upload has no usable Location")?;
        let put =
            Ask { content_type: Some(OCTETS), body: self.bytes.clone(), ..Ask::new(Method::PUT, &path) };
        let done = connection.ask(put).await.map_err(|error| error.to_string())?;
        is(&done, StatusCode::CREATED)
    }
}

/// Where an upload is closed: its `Location`, relative or not, with the digest added.
fn closing(started: &Reply, digest: &Digest) -> Option<String> {
    let location: http::Uri = started.headers.get(http::header::LOCATION)?.to_str().ok()?.parse().ok()?;
    let path = location.path_and_query()?.as_str();
    let joint = if path.contains('?') { '&' } else { '?' };
    Some(format!("{path}{joint}digest={digest}"))
}

/// Whether the reply has the status that it must have.
pub(super) fn is(reply: &Reply, status: StatusCode) -> Result<(), String> {
    if reply.status == status { Ok(()) } else { Err(format!("{} instead of {status}", reply.status)) }
}

/// A config, the same everywhere.
pub(super) fn config() -> Blob {
    Blob::of(&br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#[..])
}

/// An image manifest; the note makes it unique.
pub(super) fn manifest(config: &Blob, layer: &Blob, note: &str) -> Bytes {
    let text = format!(
        concat!(
            r#"{{"schemaVersion":2,"mediaType":"{}","#,
            r#""config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"#,
            r#""layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}],"#,
            r#""annotations":{{"trow.bench":"{}"}}}}"#
        ),
        MEDIA_TYPE,
        config.digest,
        config.bytes.len(),
        layer.digest,
        layer.bytes.len(),
        note
    );
    Bytes::from(text)
}

/// Puts a manifest under a tag or its digest.
pub(super) async fn put_manifest(
    connection: &mut Connection,
    repository: &str,
    reference: &str,
    manifest: Bytes,
) -> Result<(), String> {
    let path = format!("/v2/{repository}/manifests/{reference}");
    let put = Ask { content_type: Some(MEDIA_TYPE), body: manifest, ..Ask::new(Method::PUT, &path) };
    let reply = connection.ask(put).await.map_err(|error| error.to_string())?;
    is(&reply, StatusCode::CREATED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_json_and_differ_by_their_note() {
        let (config, layer) = (config(), Blob::random(16, 1));
        let one = manifest(&config, &layer, "1");
        let parsed: serde_json::Value = serde_json::from_slice(&one).unwrap();
        assert_eq!(parsed["layers"][0]["digest"], layer.digest.to_string());
        assert_eq!(parsed["config"]["size"], config.bytes.len());
        assert_ne!(one, manifest(&config, &layer, "2"));
    }

    #[test]
    fn an_upload_is_closed_at_its_location_whatever_its_form() {
        let digest = Digest::sha256(b"x");
        for (location, path) in [
            ("/v2/a/blobs/uploads/1", "/v2/a/blobs/uploads/1?"),
            ("http://h:1/v2/a/blobs/uploads/1?state=s", "/v2/a/blobs/uploads/1?state=s&"),
        ] {
            let mut headers = http::HeaderMap::new();
            headers.insert(http::header::LOCATION, location.parse().unwrap());
            let reply =
                Reply { status: StatusCode::ACCEPTED, headers, length: 0, body: bytes::BytesMut::new() };
            assert_eq!(closing(&reply, &digest), Some(format!("{path}digest={digest}")));
        }
    }
}
