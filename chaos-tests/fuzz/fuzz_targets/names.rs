//! See `trow_raft::fuzzing::names`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trow_raft::fuzzing::names(bytes);
});
