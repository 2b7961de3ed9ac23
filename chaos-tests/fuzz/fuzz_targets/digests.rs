//! See `trow_raft::fuzzing::digests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trow_raft::fuzzing::digests(bytes);
});
