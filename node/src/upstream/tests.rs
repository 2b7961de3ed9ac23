//! The client against registries that are made for it.

mod fake;
mod plain;
