//! The generated protobuf types: log entries, Raft traffic, control traffic between peers.
#![allow(missing_docs, clippy::all, reason = "generated code")]

/// What a log entry holds.
pub mod entry {
    tonic::include_proto!("trow.entry.v1");
}
/// The rows of the state as its file holds them.
pub mod state {
    tonic::include_proto!("trow.state.v1");
}
/// Raft between members.
pub mod raft {
    tonic::include_proto!("trow.raft.v1");
}
/// Control between peers: hello, join, status.
pub mod control {
    tonic::include_proto!("trow.control.v1");
}
