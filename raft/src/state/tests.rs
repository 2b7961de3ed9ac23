//! What commands do to the rows, in the protocol's schedules and beyond them.

mod bench;
mod cached;
mod commands;
mod cost;
mod file;
mod policy;
mod random;
mod schedules;
mod versions;
