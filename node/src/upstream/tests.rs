//! The client against registries that are made for it.

mod fake;
mod helpers;
mod hops;
mod limits;
mod login;
mod plain;
mod proxied;
mod reloaded;
