//! What commands do to the rows, beyond the protocol's schedules.

mod commands;
mod cost;
mod file;
mod random;
mod versions;
