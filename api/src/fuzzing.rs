//! What fuzz targets call: any bytes in, and the properties that must hold whatever they are.
//!
//! Each function says whether the bytes meant something. Compiled for tests, which run the
//! committed corpus (`chaos-tests/fuzz/corpus`), and for the fuzz targets beside it. Never does:
//! anything that a running node does.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::Method;
use http::header::LINK;
use trow_raft::{Command, Digest, Envelope, NodeId};

use crate::blobs::UploadToken;
use crate::headers;
use crate::manifest::parse::{Parsed, parse};
use crate::page::{PAGE_MAX, Page};
use crate::policy::{self, Facts, Policy, Verdict};
use crate::pull::ImageName;
use crate::query::Query;
use crate::range::{self, Wanted};
use crate::route::{Reference, Route};
use crate::signature;

/// A request's path, after a byte that says of which method: read, written and read again it
/// names the same.
pub fn references(bytes: &[u8]) -> bool {
    let Some((method, path)) = bytes.split_first() else { return false };
    let method = if method & 1 == 0 { Method::GET } else { Method::PUT };
    let Ok(path) = std::str::from_utf8(path) else { return false };
    let route = match Route::parse(&method, path) {
        Ok(route) => route,
        Err(error) => {
            let problem = error.problem();
            assert!(problem.status().is_client_error(), "{path:?} is {problem:?}");
            return false;
        }
    };
    let written = path_of(&route);
    assert_eq!(Route::parse(&method, &written).ok().as_ref(), Some(&route), "{path:?} became {written:?}");
    assert!(!written.contains("//") && !written.split('/').any(|part| part == ".."), "{written:?}");
    assert_eq!(route.repo().is_some(), !matches!(route, Route::Base | Route::Catalog | Route::Extensions));
    true
}

fn path_of(route: &Route) -> String {
    match route {
        Route::Base => "/v2/".to_owned(),
        Route::Catalog => "/v2/_catalog".to_owned(),
        Route::Extensions => "/v2/_oci/ext/discover".to_owned(),
        Route::Blob(repo, digest) => format!("/v2/{repo}/blobs/{digest}"),
        Route::Uploads(repo) => format!("/v2/{repo}/blobs/uploads/"),
        Route::Upload(repo, id) => {
            let token = UploadToken::new(id, "").expect("the id of a token");
            headers::upload_location(repo, &token)
        }
        Route::Manifest(repo, Reference::Digest(digest)) => format!("/v2/{repo}/manifests/{digest}"),
        Route::Manifest(repo, Reference::Tag(tag)) => format!("/v2/{repo}/manifests/{tag}"),
        Route::Tags(repo) => format!("/v2/{repo}/tags/list"),
        Route::Referrers(repo, digest) => format!("/v2/{repo}/referrers/{digest}"),
    }
}

/// A blob's size in eight bytes, then a header as `Range` and as `Content-Range`.
pub fn ranges(bytes: &[u8]) -> bool {
    let Some((size, header)) = bytes.split_first_chunk::<8>() else { return false };
    let size = u64::from_be_bytes(*size);
    let Ok(header) = std::str::from_utf8(header) else { return false };
    let wanted = range::wanted(Some(header), size);
    if let Wanted::Part(part) = &wanted {
        assert!(part.start < part.end && part.end <= size, "{header:?} of {size} is {part:?}");
        // Said in full it is the same part.
        let full = format!("bytes={}-{}", part.start, part.end - 1);
        assert_eq!(range::wanted(Some(&full), size), wanted);
    }
    assert_eq!(wanted, wanted_plainly(header, size), "{header:?} of {size}");
    let chunk = range::chunk(header, None).ok();
    if let Some((first, length)) = chunk {
        let last = first.checked_add(length).and_then(|end| end.checked_sub(1)).expect("a chunk that ends");
        assert_eq!(range::chunk(&format!("{first}-{last}"), Some(length)).ok(), chunk);
        assert!(range::chunk(header, Some(length.wrapping_add(1))).is_err());
        assert_eq!(headers::upload_range(last.saturating_add(1)), format!("0-{last}"));
    }
    wanted != Wanted::All || chunk.is_some()
}

/// RFC 9110's `ranges-specifier` of one range, with numbers as wide as they come.
fn wanted_plainly(header: &str, size: u64) -> Wanted {
    let Some((unit, range)) = header.split_once('=') else { return Wanted::All };
    let (unit, range) = (unit.trim(), range.trim());
    let bounds: Vec<&str> = range.split('-').collect();
    let digits = |text: &&str| text.chars().all(|c| c.is_ascii_digit());
    if !unit.eq_ignore_ascii_case("bytes") || bounds.len() != 2 || !bounds.iter().all(digits) {
        return Wanted::All;
    }
    // 10^37 is more than any size; cut, so that the number fits.
    let number = |text: &str| text.trim_start_matches('0').get(..38).unwrap_or(text).parse().unwrap_or(0u128);
    let size = u128::from(size);
    let (first, end) = match (bounds[0], bounds[1]) {
        ("", "") => return Wanted::All,
        ("", suffix) => (size.saturating_sub(number(suffix)), size),
        (first, "") => (number(first), size),
        (first, last) => (number(first), size.min(number(last) + 1)),
    };
    match (u64::try_from(first), u64::try_from(end)) {
        (Ok(first), Ok(end)) if first < end => Wanted::Part(first..end),
        _ => Wanted::Nothing,
    }
}

/// The query part of a URI, and the `Link` to a next page that is made of its values.
pub fn queries(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(query) = Query::parse(Some(text)) else { return false };
    let page = Page::parse(&query);
    let (last, kind) = (query.get("last").unwrap_or("x"), query.get("artifactType"));
    let limit = page.map_or(1, |page| page.limit);
    assert!(limit <= PAGE_MAX);
    let limit = limit.to_string();
    let mut parameters = vec![("n", limit.as_str()), ("last", last)];
    parameters.extend(kind.map(|kind| ("artifactType", kind)));
    let mut response = Response::new(Body::empty());
    headers::next_page(&mut response, "/v2/a/tags/list", &parameters);
    let link = response.headers().get(LINK).expect("whatever the values, there is a link");
    let (path, next) = followed(link.to_str().expect("visible ASCII"));
    assert_eq!(path, "/v2/a/tags/list");
    for (name, value) in parameters {
        assert_eq!(next.get(name), Some(value), "{link:?}");
    }
    let page = Page::parse(&next).expect("our own page");
    assert_eq!((page.limit.to_string(), page.after.unwrap_or_default()), (limit, last));
    true
}

/// Reads a `Link` of one target as RFC 8288 says: its path and its query.
fn followed(link: &str) -> (&str, Query) {
    let (target, parameters) =
        link.strip_prefix('<').and_then(|rest| rest.split_once('>')).expect("<target>");
    assert_eq!(parameters, "; rel=\"next\"");
    assert!(target.parse::<http::Uri>().is_ok(), "{target:?} is no URI");
    let (path, query) = target.split_once('?').expect("a query");
    (path, Query::parse(Some(query)).expect("our own query"))
}

/// A manifest, after its `Content-Type` and a line feed: what is accepted reads one way only, and
/// fits the log with everything that is said of it.
pub fn manifests(bytes: &[u8]) -> bool {
    let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (kind, document) = bytes.split_at(line);
    let document = Bytes::copy_from_slice(document.strip_prefix(b"\n").unwrap_or(document));
    let kind = std::str::from_utf8(kind).ok().filter(|kind| !kind.is_empty());
    let digest = Digest::sha256(&document);
    let parsed = match parse(digest, kind, document.clone()) {
        Ok(parsed) => parsed,
        Err(error) => {
            assert!(error.problem().status().is_client_error(), "{:?}", error.problem());
            return false;
        }
    };
    reads_one_way(&parsed, &document);
    let Parsed { manifest, sizes } = parsed;
    for list in [&manifest.blobs, &manifest.children] {
        assert!(list.is_sorted_by(|a, b| a < b) && list.iter().all(|digest| sizes.contains_key(digest)));
    }
    assert!(sizes.values().all(|size| i64::try_from(*size).is_ok()));
    assert_eq!(manifest.descriptor.is_some(), manifest.subject.is_some());
    if let Some(descriptor) = &manifest.descriptor {
        let descriptor: serde_json::Value = serde_json::from_slice(descriptor).expect("our own JSON");
        assert_eq!(descriptor["digest"], digest.to_string());
        assert_eq!(descriptor["size"], document.len());
        assert_eq!(descriptor["artifactType"].as_str(), manifest.artifact_type.as_deref());
    }
    let repo = "a".parse().expect("a name");
    let command = Command::PutManifest { repo, manifest, tags: Vec::new(), condition: None, sparse: false };
    let envelope =
        Envelope { node: NodeId(1), boot: 1, seq: 1, now: 0, actor: String::new(), level: 1, command };
    let entry = trow_raft::codec::encode_envelope(&envelope);
    // Digest lists are shorter than the JSON they come from; a type and annotations come again.
    assert!(entry.len() <= 3 * document.len() + 1024, "{} bytes become {}", document.len(), entry.len());
    assert_eq!(trow_raft::codec::decode_envelope(entry).ok(), Some(envelope));
    true
}

/// A line that may name an image, and a policy: what can be read decides about whatever is named.
pub fn policies(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let (image, document) = text.split_once('\n').unwrap_or(("", text));
    let policy = match Policy::parse(document) {
        Ok(policy) => policy,
        Err(invalid) => {
            assert!((1..=100).contains(&invalid.len()), "{} wrong places", invalid.len());
            assert!(invalid.iter().all(|wrong| !wrong.why.is_empty()), "{invalid:?}");
            return false;
        }
    };
    if let Some(converted) = policy::convert(document).expect("it was read before") {
        assert!(Policy::parse(&converted).is_ok(), "{converted}");
        assert_eq!(policy::convert(&converted), Ok(None));
    }
    let name = match image.parse::<ImageName>() {
        Ok(name) => name,
        Err(why) => {
            assert_eq!(policy.decide_unreadable(&why, "default").verdict, Verdict::Deny);
            return true;
        }
    };
    assert_eq!(name.to_string().parse().ok().as_ref(), Some(&name), "{image:?} became {name}");
    let (by_name, needs) = policy.decide_by_name(&name, "default");
    let decision = policy.decide(&name, "default", &Facts::default());
    // Nothing is known of it, so that what a rule needs to know denies.
    let allowed = by_name.verdict == Verdict::Allow && needs.is_empty();
    assert_eq!(decision.verdict == Verdict::Allow, allowed, "{}", decision.sentence(None));
    true
}

/// Another reader, who knows nothing of types, finds what the parser found.
fn reads_one_way(parsed: &Parsed, document: &[u8]) {
    let value: serde_json::Value = serde_json::from_slice(document).expect("it was parsed before");
    let lists = ["layers", "manifests", "blobs"].map(|key| value[key].as_array().into_iter().flatten());
    let listed = lists.into_iter().flatten().chain([&value["config"], &value["subject"]]);
    let listed: std::collections::BTreeSet<Digest> =
        listed.filter_map(|one| one["digest"].as_str()?.parse().ok()).collect();
    assert!(parsed.sizes.keys().eq(&listed), "{listed:?} are listed, {:?} were read", parsed.sizes);
    let subject = value["subject"]["digest"].as_str().and_then(|text| text.parse().ok());
    assert_eq!(parsed.manifest.subject, subject);
    if let Some(kind) = value["mediaType"].as_str().filter(|kind| !kind.is_empty()) {
        assert_eq!(parsed.manifest.media_type, kind);
    }
    let folded: Vec<String> =
        value.as_object().into_iter().flat_map(|all| all.keys()).map(|key| key.to_lowercase()).collect();
    let twice = folded.iter().enumerate().find(|(at, key)| folded[..*at].contains(key));
    let known =
        |key: &str| matches!(key, "config" | "layers" | "manifests" | "blobs" | "subject" | "mediatype");
    assert!(twice.is_none_or(|(_, key)| !known(key)), "{folded:?} in a reader that knows no cases");
    let is_index = value["manifests"].is_array();
    assert!(!is_index || value["layers"].is_null() && value["config"].is_null(), "an image and an index");
}

/// The body of a request to a webhook: an image that is judged is a text of the object, at the place that it is said
/// to be at, and a denied review has a uid to be answered by.
pub fn reviews(bytes: &[u8]) -> bool {
    let Some((object, images)) = crate::admission::judged_in(bytes) else { return false };
    for (pointer, image) in images {
        let at = object.pointer(&pointer);
        assert!(at.and_then(serde_json::Value::as_str).unwrap_or_default() == image, "{pointer} is {at:?}");
    }
    true
}

/// Something that is read to find signatures of an image, after a byte that says what: a public key, a manifest of
/// either form, a payload or a bundle. What counts is about the image and is what the bytes have, within bounds.
pub fn signatures(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    let image: Digest = SIGNED.parse().expect("a digest");
    let named = signature::Named { digest: Digest::sha256(bytes), size: bytes.len() as u64 };
    match kind {
        b'k' => {
            let Ok(text) = std::str::from_utf8(bytes) else { return false };
            signature::PublicKey::from_pem(text).is_ok_and(|key| !key.verifies(bytes, bytes))
        }
        b't' => {
            let Ok(listed) = signature::signatures_of(bytes) else { return false };
            assert!(listed.signatures.len() <= 64);
            for (named, signature) in &listed.signatures {
                assert!(named.size <= 1 << 16 && signature.len() <= bytes.len());
            }
            !listed.signatures.is_empty()
        }
        b'p' => {
            let signed = signature::signed_by_payload(bytes, &named, b"signature", &image);
            signed.is_ok_and(|signed| {
                assert_eq!(signed.message, bytes);
                says(bytes, SIGNED)
            })
        }
        b'r' => signature::bundle_of(bytes).is_ok_and(|bundle| bundle.size <= 1 << 18),
        b'b' => signature::signed_by_bundle(bytes, &named, &image).is_ok_and(|signed| {
            assert!(signed.message.starts_with(b"DSSEv1 28 application/vnd.in-toto+json "));
            assert!(signed.signature.len() <= bytes.len() && signed.message.len() <= bytes.len() + 64);
            says(&signed.message, &SIGNED["sha256:".len()..])
        }),
        _ => false,
    }
}

/// The image that signatures are looked for.
const SIGNED: &str = "sha256:4237388315cd7baef43f2500fdf0d47c08549764b6ceb30f5cd3c6356e219063";

/// That what is signed has the text in it, unless JSON spells it with escapes.
fn says(message: &[u8], text: &str) -> bool {
    let found = message.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(found || message.contains(&b'\\'), "what is signed does not name the image");
    true
}

#[cfg(test)]
#[path = "../../chaos-tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_of_references_is_read_and_written_alike() {
        replay::corpus("references", references);
    }

    #[test]
    fn the_corpus_of_ranges_stays_within_the_blob() {
        replay::corpus("ranges", ranges);
    }

    #[test]
    fn the_corpus_of_queries_comes_back_through_the_link_to_a_next_page() {
        replay::corpus("queries", queries);
    }

    #[test]
    fn the_corpus_of_reviews_names_images_where_they_are() {
        replay::corpus("reviews", reviews);
    }

    #[test]
    fn the_corpus_of_policies_decides_about_what_is_named() {
        replay::corpus("policies", policies);
    }

    #[test]
    fn the_corpus_of_manifests_reads_one_way_only() {
        replay::corpus("manifests", manifests);
    }

    #[test]
    fn the_corpus_of_signatures_says_what_is_signed() {
        replay::corpus("signatures", signatures);
    }
}
