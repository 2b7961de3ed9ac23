//! Repositories of other registries, read through this one: names, and the port to what is behind them.
//!
//! Owns how upstream registries and their repositories are named ([`name`]), and the port
//! [`Upstreams`](port::Upstreams) through which their content comes. Always holds: a name is parsed here and
//! nowhere else, and is never dialled: it is a key, for which the node knows an endpoint. Never does: HTTP to
//! upstreams, files, peers.

pub mod name;
pub mod port;

pub use name::{Host, InvalidHost, UpstreamName};
pub use port::{Content, PullError, Pulled, Relayed, Upstreams};
