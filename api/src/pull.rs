//! Repositories of other registries, read through this one: names, endpoints, and the port to what is
//! behind them.
//!
//! Owns how upstream registries, their repositories ([`name`]) and images ([`image`]) are named, whose a
//! name in a request is (`resolve`), the endpoints that answer for them, and the port [`Upstreams`]
//! through which their content comes, with its twin in memory ([`memory`]). Always holds: a name is
//! parsed here and nowhere else, and is never dialled: it is a key, for which the node knows an
//! endpoint; nothing of theirs can be changed through here. Never does: HTTP to upstreams, files,
//! peers.

pub mod image;
pub mod memory;
pub mod name;
pub mod port;
pub mod prefixes;

mod blob;
mod lists;
mod manifest;
pub(crate) mod resolve;
mod serve;

pub use image::{Image, ImageName, InvalidImage};
pub use name::{Host, InvalidHost, UpstreamName};
pub use port::{Content, PullError, Pulled, Relayed, Upstreams};
pub use prefixes::Prefixes;
pub(crate) use serve::Pull;
