//! skeleton
#[allow(dead_code)]
mod peer_blobs;
#[allow(dead_code)]
mod replicated;
#[allow(dead_code)]
mod store;
#[allow(dead_code)]
mod config;

fn main() {}
