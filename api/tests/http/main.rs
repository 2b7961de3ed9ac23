//! The API over real HTTP on a loopback port, above one node's metadata and blobs in memory.

mod support;

mod blobs;
mod hostile;
mod lists;
mod manifests;
mod model;
mod stale;
mod uploads;
