//! See `trow_raft::fuzzing::log_entries`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trow_raft::fuzzing::log_entries(bytes);
});
