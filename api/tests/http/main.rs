//! The API over real HTTP on a loopback port, above one node's metadata and blobs in memory.

mod peers;
mod reviews;
mod support;
mod webhook;

mod admission;
mod bad_reviews;
mod blobs;
mod conditional;
mod deletes;
mod errors;
mod facts;
mod fallback;
mod graces;
mod hostile;
mod kept;
mod kinds;
mod lists;
mod logged;
mod looks;
mod manifests;
mod meanwhile;
mod model;
mod names;
mod pages;
mod ranges;
mod sha512;
mod signatures;
mod stale;
mod uploads;
mod upstreams;
mod who;
