//! Measuring registries from outside: `trow bench`.
//!
//! Owns the client that puts load on a registry, what is asked of it, and the figures that come of
//! it. Always holds: everything is written below one prefix that is said; an operation counts only
//! when its status and the length of its body are right; targets take turns within one run, so
//! that a machine that slows down slows both. Never does: anything that only Trow would
//! understand, but for reading the counters of an ops listener that it is given.

mod connection;
mod target;

mod content;
mod filled;
mod work;

mod load;
mod metrics;
mod report;

mod clean;
mod fill;
mod run;

pub use fill::Fill;
pub use filled::Filled;
pub use metrics::Spent;
pub use report::{FillReport, Report};
pub use run::{Plan, Reads, Run};
pub use target::{Address, Target};
pub use work::Case;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Nobody answers.
    #[error("no server answers at {url}: {why}")]
    NoServer {
        /// Where.
        url: String,
        /// Why.
        why: String,
    },
    /// A registry does not do what is asked of it before measuring begins.
    #[error("{url}: {what}: {why}")]
    Prepare {
        /// Where.
        url: String,
        /// What was asked.
        what: &'static str,
        /// What came instead.
        why: String,
    },
    /// What was to be read at random is not there.
    #[error("{url}: {why}; fill it first with `trow bench fill`, with the same numbers")]
    NotFilled {
        /// Where.
        url: String,
        /// What is missing.
        why: String,
    },
}
