//! See `trow_api::fuzzing::policies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trow_api::fuzzing::policies(bytes);
});
