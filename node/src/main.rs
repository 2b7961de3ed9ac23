//! skeleton
#[allow(dead_code)]
mod birth;
#[allow(dead_code)]
mod cluster_dir;
#[allow(dead_code)]
mod config;
#[allow(dead_code)]
mod copies;
#[allow(dead_code)]
mod identity;
#[allow(dead_code)]
mod listener;
#[allow(dead_code)]
mod peer;
#[allow(dead_code)]
mod peer_blobs;
#[allow(dead_code)]
mod repair;
#[allow(dead_code)]
mod replicated;
#[allow(dead_code)]
mod store;
#[allow(dead_code)]
mod sweep;

fn main() {}
