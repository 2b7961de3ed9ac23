//! Paths and what they mean, and those that mean nothing.

use http::Method;
use proptest::prelude::*;

use super::*;

fn check(path: &str, expected: Result<Route, Problem>) {
    let got = Route::parse(&Method::GET, path).map_err(|error| error.problem());
    assert_eq!(got, expected, "{path}");
}

fn name(text: &str) -> RepoName {
    text.parse().unwrap()
}

fn tag(text: &str) -> Reference {
    Reference::Tag(text.parse().unwrap())
}

#[test]
fn every_endpoint_is_read() {
    let digest = Digest::sha256(b"x");
    check("/v2", Ok(Route::Base));
    check("/v2/", Ok(Route::Base));
    check("/v2/_catalog", Ok(Route::Catalog));
    check("/v2/a/b/tags/list", Ok(Route::Tags(name("a/b"))));
    check("/v2/a/manifests/latest", Ok(Route::Manifest(name("a"), tag("latest"))));
    check(&format!("/v2/a/manifests/{digest}"), Ok(Route::Manifest(name("a"), Reference::Digest(digest))));
    check(&format!("/v2/a/blobs/{digest}"), Ok(Route::Blob(name("a"), digest)));
    let encoded = digest.to_string().replace(':', "%3A");
    check(&format!("/v2/a/blobs/{encoded}"), Ok(Route::Blob(name("a"), digest)));
    check("/v2/a/blobs/uploads", Ok(Route::Uploads(name("a"))));
    check("/v2/a/blobs/uploads/", Ok(Route::Uploads(name("a"))));
    check("/v2/a/blobs/uploads/1-2_Z", Ok(Route::Upload(name("a"), "1-2_Z".into())));
    check(&format!("/v2/a/referrers/{digest}"), Ok(Route::Referrers(name("a"), digest)));
}

#[test]
fn repositories_may_be_named_like_our_paths() {
    let digest = Digest::sha256(b"x");
    check("/v2/tags/list/tags/list", Ok(Route::Tags(name("tags/list"))));
    check("/v2/a/blobs/uploads/manifests/list", Ok(Route::Manifest(name("a/blobs/uploads"), tag("list"))));
    check("/v2/a/manifests/x/blobs/uploads/", Ok(Route::Uploads(name("a/manifests/x"))));
    check("/v2/blobs/uploads/blobs/uploads/id", Ok(Route::Upload(name("blobs/uploads"), "id".into())));
    check(&format!("/v2/blobs/uploads/blobs/{digest}"), Ok(Route::Blob(name("blobs/uploads"), digest)));
    check(&format!("/v2/v2/referrers/{digest}"), Ok(Route::Referrers(name("v2"), digest)));
}

#[test]
fn malformed_parts_have_their_codes() {
    let digest = Digest::sha256(b"x").to_string();
    for bad in ["..", "%2e%2e", "a/../b", "a%2Fb", "A", "%00", "a%", "%ff", "", "a//b", &"a/".repeat(2048)] {
        check(&format!("/v2/{bad}/tags/list"), Err(Problem::NameInvalid));
        check(&format!("/v2/{bad}/blobs/{digest}"), Err(Problem::NameInvalid));
    }
    for bad in ["sha256:x", "sha256", "md5:00", "sha256:..%2F..%2Fx", &digest.to_uppercase(), &digest[..70]] {
        check(&format!("/v2/a/blobs/{bad}"), Err(Problem::DigestInvalid));
        check(&format!("/v2/a/referrers/{bad}"), Err(Problem::DigestInvalid));
    }
    check("/v2/a/blobs/sha256:../../x", Err(Problem::DigestInvalid));
    check("/v2/a/manifests/sha256:x", Err(Problem::DigestInvalid));
    let long = "t".repeat(129);
    check(&format!("/v2/a/manifests/{long}"), Err(Problem::ManifestUnknown));
    let put = Route::parse(&Method::PUT, &format!("/v2/a/manifests/{long}")).map_err(|e| e.problem());
    assert_eq!(put, Err(Problem::ManifestInvalid));
    check("/v2/a/blobs/uploads/..", Err(Problem::UploadUnknown));
    for bad in ["/", "/v1/", "/v2x", "/v2/a", "/v2/a/tags", "/v2/a/blobs"] {
        check(bad, Err(Problem::NoSuchPath));
    }
}

proptest! {
    #[test]
    fn no_path_panics_and_names_round_trip(path in "/v2/[ -~]{0,80}", repo in "[a-z0-9]{1,5}(/[a-z0-9]{1,5}){0,3}") {
        let _ = Route::parse(&Method::GET, &path);
        for end in ["tags/list", "manifests/x", "blobs/uploads/", "blobs/uploads/x"] {
            let route = Route::parse(&Method::GET, &format!("/v2/{repo}/{end}")).map_err(|e| e.problem()).unwrap();
            prop_assert_eq!(route.repo().unwrap().as_str(), repo.as_str());
        }
    }
}
