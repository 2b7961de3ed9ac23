//! See `trow_raft::fuzzing::raft_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trow_raft::fuzzing::raft_frames(bytes);
});
