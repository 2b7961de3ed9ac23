//! PUT of a manifest: read once, checked against what is known, then one command.
//!
//! Whether everything it names is here is decided by apply, so that it cannot race a delete. What
//! is checked before that keeps the log free of manifests that would be refused.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use trow_raft::limits::MANIFEST_MAX;
use trow_raft::{Command, Digest, RepoName, StateError, Tag, View};

use super::condition;
use super::parse::{Parsed, parse, size_differs};
use crate::blob::visible;
use crate::body::{Incoming, Room};
use crate::changes::{Changes, missing};
use crate::error::{Error, Problem};
use crate::headers;
use crate::query::Query;
use crate::reads::Reads;
use crate::route::{Reference, shown};

/// Most tags that one push may move; the distribution-spec asks for at least 10.
const TAGS_MAX: usize = 100;
/// Most lines of `OCI-Tag` in a reply, one for each tag while they suffice: clients and proxies
/// refuse replies of more than 100 header lines.
const TAG_LINES: usize = 50;
/// How long the check waits for a confirmed view; as long as a miss does.
const CHECK_WAIT: Duration = Duration::from_secs(5);

/// The handles that a push uses.
pub(crate) struct Push<'a> {
    pub(crate) reads: &'a Reads,
    pub(crate) changes: &'a Changes,
    /// `registry.sparse`.
    pub(crate) sparse: bool,
    /// Bounds the manifests in memory.
    pub(crate) room: &'a Room,
    pub(crate) repo: &'a RepoName,
    pub(crate) actor: &'a str,
}

/// What a look at the state says of the things a manifest names.
enum Known {
    /// All are there, with the right sizes.
    All,
    /// These are not.
    Lacks(Vec<Digest>),
    /// This one has another size.
    Differs { digest: Digest, size: u64, known: u64 },
}

impl Push<'_> {
    /// Answers the PUT.
    pub(crate) async fn put(
        &self,
        reference: &Reference,
        query: &Query,
        request: &HeaderMap,
        body: Incoming,
    ) -> Result<Response, Error> {
        let tags = tags(reference, query)?;
        let condition = condition::of(request)?;
        if condition.is_some() && tags.is_empty() {
            return Err(condition::only_tags());
        }
        let content_type = request.get(CONTENT_TYPE).map(HeaderValue::to_str).transpose();
        let content_type = content_type.map_err(|_| {
            Error::new(Problem::ManifestInvalid, "Content-Type is not visible ASCII")
                .detail(json!({ "header": "Content-Type" }))
        })?;
        let (bytes, _taken) = body.whole(MANIFEST_MAX, self.room).await?;
        let digest = match reference {
            Reference::Tag(_) => Digest::sha256(&bytes),
            Reference::Digest(digest) if Digest::of(digest.algorithm(), &bytes) == *digest => *digest,
            Reference::Digest(digest) => {
                return Err(Error::new(Problem::DigestInvalid, "the manifest does not have the digest")
                    .detail(json!({ "digest": digest, "has": Digest::of(digest.algorithm(), &bytes) })));
            }
        };
        let parsed = parse(digest, content_type, bytes)?;
        self.check(&parsed).await?;

        let subject = parsed.manifest.subject;
        let command = Command::PutManifest {
            repo: self.repo.clone(),
            manifest: parsed.manifest,
            tags: tags.clone(),
            condition,
            sparse: self.sparse,
        };
        let index = self.changes.make(self.actor, command).await?;
        let mut response = StatusCode::CREATED.into_response();
        headers::location(&mut response, self.repo, "manifests", &digest);
        headers::digest(&mut response, &digest);
        headers::log_id(&mut response, index);
        if let Some(subject) = subject {
            headers::put(&mut response, headers::SUBJECT, &subject.to_string());
        }
        if query.get("tag").is_some() {
            for line in tags.chunks(tags.len().div_ceil(TAG_LINES).max(1)) {
                let line: Vec<&str> = line.iter().map(Tag::as_str).collect();
                headers::put(&mut response, headers::TAG, &line.join(", "));
            }
        }
        Ok(response)
    }

    /// What is applied here decides when it has everything; else a confirmed view does.
    async fn check(&self, parsed: &Parsed) -> Result<(), Error> {
        let look = |view: &View| self.known(view, parsed).map(Some);
        let settled = |view: &View| match self.known(view, parsed)? {
            Known::Lacks(_) if !self.sparse => Ok(None),
            known => Ok(Some(known)),
        };
        let here = self.reads.applied_here(settled, None)?;
        let known = match here {
            Some(found) => found,
            None => self.reads.confirm(CHECK_WAIT, look).await?,
        };
        match known.value {
            Some(Known::Differs { digest, size, known }) => Err(size_differs(&digest, size, known)),
            Some(Known::Lacks(digests)) if !self.sparse => {
                Err(missing(&digests).header(headers::LOG_ID, HeaderValue::from(known.at)))
            }
            _ => Ok(()),
        }
    }

    fn known(&self, view: &View, parsed: &Parsed) -> Result<Known, StateError> {
        let manifest = &parsed.manifest;
        let mut lacks = Vec::new();
        for (digest, size) in &parsed.sizes {
            let blob = visible(view, self.repo, digest)?;
            let child = view.manifest(self.repo, digest)?.map(|row| row.size);
            if let Some(known) = blob.or(child).filter(|known| known != size) {
                return Ok(Known::Differs { digest: *digest, size: *size, known });
            }
            let lacks_blob = blob.is_none() && manifest.blobs.binary_search(digest).is_ok();
            let lacks_child = child.is_none() && manifest.children.binary_search(digest).is_ok();
            if lacks_blob || lacks_child {
                lacks.push(*digest);
            }
        }
        Ok(if lacks.is_empty() { Known::All } else { Known::Lacks(lacks) })
    }
}

/// The tag of the path and those of `?tag=`, each once.
fn tags(reference: &Reference, query: &Query) -> Result<Vec<Tag>, Error> {
    let mut tags: Vec<Tag> = match reference {
        Reference::Tag(tag) => vec![tag.clone()],
        Reference::Digest(_) => Vec::new(),
    };
    for text in query.all("tag") {
        let tag: Tag = text.parse().map_err(|why: trow_raft::name::InvalidTag| {
            Error::new(Problem::ManifestInvalid, why.to_string()).detail(json!({ "tag": shown(text) }))
        })?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
        if tags.len() > TAGS_MAX {
            let why = format!("one push may move at most {TAGS_MAX} tags");
            return Err(Error::new(Problem::TooManyTags, why).detail(json!({ "max": TAGS_MAX })));
        }
    }
    Ok(tags)
}
