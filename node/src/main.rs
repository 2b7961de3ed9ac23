//! skeleton
#[allow(dead_code)]
mod store;
#[allow(dead_code)]
mod config;

fn main() {}
