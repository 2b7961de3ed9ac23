//! Several nodes that ask a registry of the test's own, over HTTP on loopback, and record what they hear in one
//! real state. See `world`.

mod answers;
mod deletes;
mod fake;
mod freshness;
mod lists;
mod once;
mod trouble;
mod world;
