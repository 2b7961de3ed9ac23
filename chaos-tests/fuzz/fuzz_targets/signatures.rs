//! See `trow_api::fuzzing::signatures`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trow_api::fuzzing::signatures(bytes);
});
