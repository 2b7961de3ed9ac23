//! What a client is told when something goes wrong: the distribution-spec's "Error Codes".
//!
//! The only place where a status and a code meet. Internal text never gets into a reply: what
//! went wrong inside is logged, and the client reads what it can do.

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::blobs::{ReadBlobError, UploadError};

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = $status:literal $code:literal;)*) => {
        /// Everything that can be wrong, as a client may tell it apart.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Problem { $($(#[$doc])* $name,)* }

        impl Problem {
            /// The status of the reply.
            pub fn status(self) -> StatusCode {
                let code: u16 = match self { $(Problem::$name => $status,)* };
                StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// The code in the reply's body.
            pub fn code(self) -> &'static str {
                match self { $(Problem::$name => $code,)* }
            }
        }
    };
}

problems! {
    /// The blob is not in the repository.
    BlobUnknown = 404 "BLOB_UNKNOWN";
    /// The upload request contradicts itself.
    UploadInvalid = 400 "BLOB_UPLOAD_INVALID";
    /// The chunk does not begin where the session ends.
    UploadOutOfOrder = 416 "BLOB_UPLOAD_INVALID";
    /// There is no such session.
    UploadUnknown = 404 "BLOB_UPLOAD_UNKNOWN";
    /// Not a digest, of an algorithm that is not supported, or not that of the bytes.
    DigestInvalid = 400 "DIGEST_INVALID";
    /// The range lies outside the blob.
    RangeInvalid = 416 "RANGE_INVALID";
    /// The manifest names something that is not in the repository.
    ManifestBlobUnknown = 404 "MANIFEST_BLOB_UNKNOWN";
    /// The manifest, its tag or its condition is malformed.
    ManifestInvalid = 400 "MANIFEST_INVALID";
    /// The manifest or tag is not in the repository.
    ManifestUnknown = 404 "MANIFEST_UNKNOWN";
    /// The manifest is larger than the limit.
    ManifestTooLarge = 413 "SIZE_INVALID";
    /// More tags in one request than the limit.
    TooManyTags = 414 "MANIFEST_INVALID";
    /// The tag is not where the condition says.
    ConditionFailed = 412 "PRECONDITION_FAILED";
    /// Not a review that could be answered.
    ReviewInvalid = 400 "UNSUPPORTED";
    /// The review is larger than the limit.
    ReviewTooLarge = 413 "SIZE_INVALID";
    /// Sent as something else than it must be.
    MediaTypeUnsupported = 415 "UNSUPPORTED";
    /// Not a repository name.
    NameInvalid = 400 "NAME_INVALID";
    /// There is no such repository.
    NameUnknown = 404 "NAME_UNKNOWN";
    /// A size that differs from the blob's.
    SizeInvalid = 400 "SIZE_INVALID";
    /// `n` is no number.
    PaginationInvalid = 400 "PAGINATION_NUMBER_INVALID";
    /// The query string cannot be decoded.
    QueryInvalid = 400 "UNSUPPORTED";
    /// The request contradicts HTTP.
    RequestInvalid = 400 "UNSUPPORTED";
    /// The request's headers are larger than the limit.
    HeadTooLarge = 431 "UNSUPPORTED";
    /// Credentials are missing or wrong.
    Unauthorized = 401 "UNAUTHORIZED";
    /// The caller is known and may not.
    Denied = 403 "DENIED";
    /// No such path.
    NoSuchPath = 404 "UNSUPPORTED";
    /// Not with this method, or switched off.
    Unsupported = 405 "UNSUPPORTED";
    /// Still used by a manifest.
    InUse = 405 "UNSUPPORTED";
    /// The client does too much at once.
    TooManyRequests = 429 "TOOMANYREQUESTS";
    /// No leader, no quorum or no holder; try again.
    Unavailable = 503 "UNAVAILABLE";
    /// An upstream registry gave something else than it was asked for.
    BadUpstream = 502 "UPSTREAM_INVALID";
    /// The disk is full.
    NoSpace = 507 "NO_SPACE";
    /// The request came from this registry itself, which was to fetch from itself.
    Loop = 508 "UNSUPPORTED";
    /// A failure of this node; the log has it.
    Internal = 500 "UNKNOWN";
}

/// A reply that says what went wrong.
#[derive(Debug)]
pub struct Error {
    problem: Problem,
    message: Cow<'static, str>,
    detail: Option<Box<Value>>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Seconds after which a client told "unavailable" should try again: an election takes less.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");
/// Seconds for one told "too many": uploads take longer than elections.
const BACK_OFF_SECONDS: HeaderValue = HeaderValue::from_static("10");

impl Error {
    /// A problem, and in a sentence what is wrong and what to do.
    pub fn new(problem: Problem, message: impl Into<Cow<'static, str>>) -> Self {
        let headers = match problem {
            Problem::Unavailable => vec![(RETRY_AFTER, RETRY_SECONDS)],
            Problem::TooManyRequests => vec![(RETRY_AFTER, BACK_OFF_SECONDS)],
            _ => Vec::new(),
        };
        Error { problem, message: message.into(), detail: None, headers }
    }

    /// A failure of this node: the client learns no more than that, the log has the cause.
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(cause = %chain(cause), "a request failed inside this node and was answered 500; if it repeats, check the disk and report this line");
        Error::new(Problem::Internal, "the node failed; its log says why, under this request's id")
    }

    /// Adds what exactly is wrong, for programs.
    #[must_use]
    pub fn detail(mut self, detail: Value) -> Self {
        self.detail = Some(Box::new(detail));
        self
    }

    /// Adds a header to the reply.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Says when to try again, in whole seconds and not at once.
    #[must_use]
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.headers.retain(|(name, _)| *name != RETRY_AFTER);
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        self.header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// The same said of another kind of thing.
    #[must_use]
    pub(crate) fn instead(mut self, problem: Problem) -> Self {
        self.problem = problem;
        self
    }

    /// What kind of problem it is.
    pub fn problem(&self) -> Problem {
        self.problem
    }

    /// What the client reads.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// An error and its sources, joined.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut entry = json!({ "code": self.problem.code(), "message": self.message });
        if let Some(detail) = self.detail {
            entry["detail"] = *detail;
        }
        let body = json!({ "errors": [entry] }).to_string();
        let mut response = (self.problem.status(), body).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

impl From<UploadError> for Error {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Unknown => Error::new(
                Problem::UploadUnknown,
                "there is no such upload: it never was, is closed, or expired; begin again with POST",
            ),
            UploadError::OutOfOrder { have, .. } => {
                Error::new(Problem::UploadOutOfOrder, "the chunk does not begin where the upload ends")
                    .detail(json!({ "have": have }))
            }
            UploadError::DigestMismatch => {
                Error::new(Problem::DigestInvalid, "the uploaded bytes do not have the digest")
            }
            UploadError::NoSpace => {
                Error::new(Problem::NoSpace, "the disk is full; free space or add a node, then push again")
            }
            UploadError::TooMany => {
                Error::new(Problem::TooManyRequests, "too many uploads at once; finish or cancel some")
            }
            UploadError::Unavailable(why) => {
                tracing::warn!(%why, "an upload was refused because too few nodes can be reached; see who is down with `trow cluster status`");
                Error::new(
                    Problem::Unavailable,
                    "too few nodes can be reached to make this durable; try again",
                )
            }
            UploadError::OutcomeUnknown(why) => {
                tracing::warn!(%why, "an upload may or may not be stored, and the client was told to try again; nothing to do unless it repeats, then see `trow cluster status`");
                Error::new(Problem::Unavailable, OUTCOME_UNKNOWN)
            }
            UploadError::ClientGone(cause) => {
                tracing::debug!(%cause, "client broke off");
                Error::new(Problem::UploadInvalid, "the request's body broke off")
            }
            UploadError::Failed(_) => Error::internal(&error),
        }
    }
}

/// What a client reads when a change may or may not have taken effect.
pub(crate) const OUTCOME_UNKNOWN: &str =
    "the outcome is unknown: it may still take effect; look, then try again";

impl From<ReadBlobError> for Error {
    fn from(error: ReadBlobError) -> Self {
        match error {
            ReadBlobError::NotHere => {
                Error::new(Problem::Unavailable, "no node that holds the blob can be reached now; try again")
            }
            ReadBlobError::Failed(_) => Error::internal(&error),
        }
    }
}
