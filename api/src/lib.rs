//! What clients of Trow see: the OCI distribution API.
//!
//! Owns the one path parser ([`route`]), the reading of everything a client sends (names, ranges,
//! manifests), the OCI errors and their status codes ([`error`]), the rules for stale answers,
//! and the narrow port [`Blobs`] through which blob bytes come and go.
//!
//! Always holds: nothing behind the edge sees text that was not parsed; a change is answered only
//! after it is committed; an answer about a *name* is linearizable or says that it is stale.
//! Never does: files, peers, consensus.

pub mod server;

mod endpoints;
pub mod route;

mod blob;
pub mod manifest;
mod page;
mod referrers;
mod tags;
mod upload;

mod changes;
mod graces;
pub mod hot;
mod reads;

pub mod admission;

mod access;
pub mod auth;
mod body;
pub mod error;
mod etag;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod headers;
pub mod metrics;
mod query;
pub mod range;
pub mod request_id;

pub mod blobs;
pub mod pattern;
pub mod policy;
pub mod pull;
pub mod signature;

pub use admission::{Admission, AdmissionMetrics};
pub use auth::{Access, AdminToken, Auth};
pub use blobs::{Blobs, ByteStream, ReadBlobError, UploadError, UploadToken};
pub use body::read_out;
pub use error::{Error, Problem};
pub use manifest::replies::Replies;
pub use metrics::HttpMetrics;
pub use server::{Api, Settings, WithoutQuorum, router};
