//! What is asked of a registry, one operation at a time.
//!
//! Always holds: an operation is told its number, which no other operation of the run has, and
//! what it asks follows from that number; it succeeds only with the right status and the right
//! length.

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use trow_raft::{Digest, RepoName};

use super::connection::{Ask, Connection};
use super::content::{self, Blob, is};
use super::filled::Filled;

/// Tags on the page of a list that is read.
pub(super) const PAGE: u64 = 100;

/// A row of `trow bench run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// GET of a manifest by its tag.
    GetManifestByTag,
    /// GET of a manifest by its digest.
    GetManifestByDigest,
    /// HEAD of a manifest by its tag.
    HeadManifestByTag,
    /// GET of a blob of 4 KiB.
    #[value(name = "get-blob-4kib")]
    GetBlob4KiB,
    /// GET of a blob of 256 KiB.
    #[value(name = "get-blob-256kib")]
    GetBlob256KiB,
    /// GET of a blob of 1 MiB.
    #[value(name = "get-blob-1mib")]
    GetBlob1MiB,
    /// PUT of a manifest that is not there yet, by a tag that is not there yet.
    PutManifest,
    /// Push of a blob of 4 KiB that is not there yet, in two requests.
    #[value(name = "push-blob-4kib")]
    PushBlob4KiB,
}

impl Case {
    /// As it is typed and reported.
    pub(super) fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// One kind of operation against one registry.
#[derive(Debug)]
pub(super) enum Work {
    /// The same thing again and again, `length` bytes long.
    Read { method: Method, path: String, length: u64 },
    /// A manifest that is new, under a tag that is new.
    Put { repository: RepoName, config: Blob, layer: Blob },
    /// A blob that is new; `base` with the number in front.
    Push { repository: RepoName, base: Bytes },
    /// Another one of these paths each time, until there are no more.
    Delete { paths: Vec<String> },
    /// The manifest with the operation's number.
    Fill(Filled),
    /// The config and the layer of a fill in the repository with the operation's number, from the first one.
    Mount(Filled),
    /// Any manifest of a fill, by its tag.
    AnyByTag(Filled),
    /// Any manifest of a fill, by its digest.
    AnyByDigest(Filled),
    /// Any page of the tags of any repository of a fill.
    AnyPage(Filled),
}

impl Work {
    /// Does operation `number`.
    pub(super) async fn once(&self, connection: &mut Connection, number: u64) -> Result<(), String> {
        match self {
            Work::Read { method, path, length } => {
                let length = if *method == Method::HEAD { 0 } else { *length };
                get(connection, method.clone(), path, Some(length)).await
            }
            Work::Put { repository, config, layer } => {
                let tag = put_tag(number);
                let manifest = content::manifest(config, layer, &tag);
                content::put_manifest(connection, repository.as_str(), &tag, manifest).await
            }
            Work::Push { repository, base } => {
                pushed(base, number).push(connection, repository.as_str()).await
            }
            Work::Delete { paths } => {
                let Some(path) = paths.get(number as usize) else { return Ok(()) };
                let reply = connection.ask(Ask::new(Method::DELETE, path)).await;
                is(&reply.map_err(|error| error.to_string())?, StatusCode::ACCEPTED)
            }
            Work::Fill(filled) => {
                let (repository, tag) = (filled.repository(number), filled.tag(number));
                content::put_manifest(connection, &repository, &tag, filled.manifest(number)).await
            }
            Work::Mount(filled) => {
                let (from, to) = (filled.repository(0), filled.repository(number));
                for blob in filled.blobs() {
                    let path = format!("/v2/{to}/blobs/uploads/?mount={}&from={from}", blob.digest);
                    let reply = connection.ask(Ask::new(Method::POST, &path)).await;
                    is(&reply.map_err(|error| error.to_string())?, StatusCode::CREATED)?;
                }
                Ok(())
            }
            Work::AnyByTag(filled) => {
                let i = any(number, filled.manifests());
                let length = filled.manifest(i).len() as u64;
                get(connection, Method::GET, &filled.path_by_tag(i), Some(length)).await
            }
            Work::AnyByDigest(filled) => {
                let i = any(number, filled.manifests());
                let length = filled.manifest(i).len() as u64;
                get(connection, Method::GET, &filled.path_by_digest(i), Some(length)).await
            }
            Work::AnyPage(filled) => {
                let i = any(number, filled.manifests());
                get(connection, Method::GET, &page(filled, i), None).await
            }
        }
    }
}

/// The path of a full page of tags, if the repository has as many, that follows some tag.
fn page(filled: &Filled, i: u64) -> String {
    let repository = filled.repository(i);
    let latest = filled.tags_beside(i).saturating_sub(PAGE + 1) * filled.repositories();
    let last = filled.tag(i.min(latest));
    format!("/v2/{repository}/tags/list?n={PAGE}&last={last}")
}

/// The tag of a manifest that was put under the number.
pub(super) fn put_tag(number: u64) -> String {
    format!("n{number}")
}

/// The blob that is pushed under the number.
pub(super) fn pushed(base: &Bytes, number: u64) -> Blob {
    let mut bytes = BytesMut::from(&number.to_be_bytes()[..]);
    bytes.extend_from_slice(base.get(8..).unwrap_or_default());
    Blob::of(bytes)
}

/// The digest of the manifest that was put under the number.
pub(super) fn put_digest(config: &Blob, layer: &Blob, number: u64) -> Digest {
    Digest::sha256(&content::manifest(config, layer, &put_tag(number)))
}

async fn get(
    connection: &mut Connection,
    method: Method,
    path: &str,
    length: Option<u64>,
) -> Result<(), String> {
    let reply = connection.ask(Ask::new(method, path)).await.map_err(|error| error.to_string())?;
    is(&reply, StatusCode::OK)?;
    match length {
        Some(length) if reply.length != length => Err(format!("{} bytes instead of {length}", reply.length)),
        _ => Ok(()),
    }
}

/// A number below `count` that looks random, the same for the same operation: SplitMix64.
fn any(number: u64, count: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % count.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_evenly() {
        let mut hits = [0_u32; 10];
        for number in 0..10_000 {
            hits[any(number, 10) as usize] += 1;
        }
        assert!(hits.iter().all(|hits| (900..1100).contains(hits)), "{hits:?}");
    }

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<String> =
            <Case as clap::ValueEnum>::value_variants().iter().map(|case| case.name()).collect();
        assert_eq!(names.len(), 8);
        assert!(names.contains("get-blob-256kib") && names.contains("put-manifest"), "{names:?}");
    }

    #[test]
    fn pushed_blobs_differ_and_keep_their_length() {
        let base = Bytes::from(vec![7; 4096]);
        let (one, two) = (pushed(&base, 1), pushed(&base, 2));
        assert_ne!(one.digest, two.digest);
        assert_eq!(one.bytes.len(), 4096);
    }

    #[test]
    fn a_page_is_full_where_there_are_tags_enough() {
        let filled = Filled::new("a".parse().unwrap(), 1000, 2);
        for i in 0..1000 {
            let path = page(&filled, i);
            let last: u64 = path.rsplit_once("last=t").unwrap().1.parse().unwrap();
            assert!(last + PAGE < filled.tags_beside(i), "{path}");
        }
    }
}
