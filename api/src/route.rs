//! Method-free reading of a request's path: the distribution-spec's "Endpoints" table.
//!
//! [`Route::parse`] is the only path parser. Repository names contain slashes and may look like
//! our own paths (`a/blobs/uploads`), so a path is read from its end. Each segment is
//! percent-decoded after the split, so an encoded slash cannot make a segment.

use http::Method;
pub use trow_raft::Reference;
use trow_raft::{Digest, RepoName};

use crate::blobs::UploadToken;
use crate::error::{Error, Problem};
use crate::pull::resolve::spelled;

/// What a path below `/v2` names. Parts are parsed, not looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/v2/` (end-1).
    Base,
    /// `/v2/_catalog`.
    Catalog,
    /// `/v2/_oci/ext/discover`.
    Extensions,
    /// `/v2/<name>/blobs/<digest>` (end-2, end-10).
    Blob(RepoName, Digest),
    /// `/v2/<name>/blobs/uploads/` (end-4, end-11).
    Uploads(RepoName),
    /// `/v2/<name>/blobs/uploads/<id>` (end-5, end-6, end-13, end-14).
    Upload(RepoName, String),
    /// `/v2/<name>/manifests/<reference>` (end-3, end-7, end-9).
    Manifest(RepoName, Reference),
    /// `/v2/<name>/tags/list` (end-8).
    Tags(RepoName),
    /// `/v2/<name>/referrers/<digest>` (end-12).
    Referrers(RepoName, Digest),
}

impl Route {
    /// Reads the raw, still encoded path of a URI.
    ///
    /// # Errors
    /// `NoSuchPath` when no endpoint looks like this; else the code of the part that is malformed.
    pub fn parse(method: &Method, path: &str) -> Result<Route, Error> {
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Route::Base),
            Some(rest) => rest.strip_prefix('/').ok_or_else(|| no_such_path(path))?,
            None => return Err(no_such_path(path)),
        };
        let segments: Vec<String> = rest.split('/').map(decode).collect::<Option<_>>().ok_or_else(|| {
            Error::new(
                Problem::NameInvalid,
                "the path is not percent-encoded UTF-8 without control characters",
            )
            .detail(serde_json::json!({ "path": shown(path) }))
        })?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            ["_catalog"] => Ok(Route::Catalog),
            ["_oci", "ext", "discover"] => Ok(Route::Extensions),
            [name @ .., "tags", "list"] => Ok(Route::Tags(repo(name)?)),
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
                Ok(Route::Uploads(repo(name)?))
            }
            [name @ .., "blobs", "uploads", id] => upload(name, id),
            [name @ .., "blobs", digest] => Ok(Route::Blob(repo(name)?, parse_digest(digest)?)),
            [name @ .., "referrers", digest] => Ok(Route::Referrers(repo(name)?, parse_digest(digest)?)),
            [name @ .., "manifests", reference] => {
                Ok(Route::Manifest(repo(name)?, parse_reference(method, reference)?))
            }
            // No name has a colon: this was meant to be a digest, and has slashes in it.
            [.., "blobs" | "manifests" | "referrers", digest, _] | [.., digest, _, _]
                if digest.contains(':') =>
            {
                parse_digest(digest).and(Err(no_such_path(path)))
            }
            _ => Err(no_such_path(path)),
        }
    }

    /// The endpoint's name in metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Route::Base => "base",
            Route::Catalog => "catalog",
            Route::Extensions => "extensions",
            Route::Blob(..) => "blob",
            Route::Uploads(..) => "uploads",
            Route::Upload(..) => "upload",
            Route::Manifest(..) => "manifest",
            Route::Tags(..) => "tags",
            Route::Referrers(..) => "referrers",
        }
    }

    /// The repository, where the path names one.
    pub fn repo(&self) -> Option<&RepoName> {
        match self {
            Route::Base | Route::Catalog | Route::Extensions => None,
            Route::Blob(repo, _)
            | Route::Uploads(repo)
            | Route::Upload(repo, _)
            | Route::Manifest(repo, _)
            | Route::Tags(repo)
            | Route::Referrers(repo, _) => Some(repo),
        }
    }

    /// The methods the endpoint has, for `Allow`.
    pub fn methods(&self) -> &'static str {
        match self {
            Route::Base | Route::Catalog | Route::Extensions | Route::Tags(_) | Route::Referrers(..) => {
                "GET, HEAD"
            }
            Route::Blob(..) => "GET, HEAD, DELETE",
            Route::Uploads(_) => "POST",
            Route::Upload(..) => "GET, PATCH, PUT, DELETE",
            Route::Manifest(..) => "GET, HEAD, PUT, DELETE",
        }
    }
}

fn repo(segments: &[&str]) -> Result<RepoName, Error> {
    let name = segments.join("/");
    // An encoded slash must not make two components of one.
    let name = if segments.iter().any(|part| part.contains('/')) { name.replace('/', "%2F") } else { name };
    spelled(&name).parse().map_err(|why: trow_raft::name::InvalidRepoName| {
        Error::new(Problem::NameInvalid, why.to_string()).detail(serde_json::json!({ "name": shown(&name) }))
    })
}

fn upload(name: &[&str], id: &str) -> Result<Route, Error> {
    let repo = repo(name)?;
    // An id that cannot be one of ours names no session.
    let token = UploadToken::new(id, "").ok_or_else(|| {
        Error::from(crate::blobs::UploadError::Unknown)
            .detail(serde_json::json!({ "name": &repo, "upload": shown(id) }))
    })?;
    Ok(Route::Upload(repo, token.id().to_owned()))
}

/// A digest from a path or a query.
pub(crate) fn parse_digest(text: &str) -> Result<Digest, Error> {
    text.parse().map_err(|why: trow_raft::digest::InvalidDigest| {
        Error::new(Problem::DigestInvalid, why.to_string())
            .detail(serde_json::json!({ "digest": shown(text) }))
    })
}

fn parse_reference(method: &Method, text: &str) -> Result<Reference, Error> {
    if text.contains(':') {
        return parse_digest(text).map(Reference::Digest);
    }
    text.parse().map(Reference::Tag).map_err(|why: trow_raft::name::InvalidTag| {
        // Nothing can be stored under it, so for a reader it is simply not there.
        let problem = if method == Method::PUT { Problem::ManifestInvalid } else { Problem::ManifestUnknown };
        Error::new(problem, why.to_string()).detail(serde_json::json!({ "tag": shown(text) }))
    })
}

fn no_such_path(path: &str) -> Error {
    Error::new(Problem::NoSuchPath, "no endpoint of the OCI distribution API has this path")
        .detail(serde_json::json!({ "path": shown(path) }))
}

/// At most 300 characters of a client's text, for a reply.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(300).collect()
}

/// Percent-decodes one segment or query value; none when it is not UTF-8 or has control
/// characters. `+` stays: this is no form.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let plain = if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let [high, low] = digits.map(|d| char::from(d).to_digit(16));
            u8::try_from(high? * 16 + low?).ok()?
        } else {
            byte
        };
        bytes.push(plain);
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

#[cfg(test)]
mod tests;
