//! Real processes, real faults, recorded histories, checkers.
//!
//! This crate starts the built `trow` program and looks at it from outside: over HTTP, through its
//! command line, and in its data directories. It imports nothing of Trow but value types, so that it
//! keeps judging what a user sees whatever changes inside.
//!
//! - [`require`]: what a test needs of the machine, and how it says that it was not run;
//! - [`binary`], [`ports`], [`process`], [`cluster`]: the program under test, running;
//! - [`content`], [`client`], [`upload`], [`image`], [`admin`], [`metrics`]: pushing, pulling, asking;
//! - [`front`], [`conformance`]: one address for all nodes, and the official judge of what it answers;
//! - [`tool`], [`layout`], [`registry`], [`containerd`]: what other people's programs need, and those programs;
//! - [`webhook`]: asking as an API server does;
//! - [`upstream`]: a registry to pull from, which counts what it is asked and can be made to behave badly;
//! - [`exposed`]: every metric there is;
//! - [`history`], [`check`], [`load`], [`kept`], [`mixed`], [`audit`]: what clients saw, and whether it was right;
//! - [`fault`], [`standstill`], [`disk`], [`powered`], [`strace`], [`steps`], [`link`], [`away`]: what is
//!   done to it;
//! - [`report`]: what a scenario found.
//!
//! Invariant: whatever a scenario starts or mounts is gone when its handle is dropped.
//! Invariant: an outcome that is not known counts as unknown, never as success or failure.

pub mod require;

pub mod binary;
pub mod cluster;
pub mod ports;
pub mod process;

pub mod admin;
pub mod client;
pub mod content;
pub mod exposed;
pub mod image;
pub mod metrics;
pub mod upload;
pub mod webhook;

pub mod conformance;
pub mod containerd;
pub mod front;
pub mod layout;
pub mod registry;
pub mod tool;
pub mod upstream;

pub mod audit;
pub mod check;
pub mod history;
pub mod kept;
pub mod load;
pub mod mixed;

pub mod away;
pub mod disk;
pub mod fault;
pub mod link;
pub mod powered;
pub mod standstill;
pub mod steps;
pub mod strace;

pub mod report;

mod shutdown;
