//! See `trow::fuzzing::upload_state`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trow::fuzzing::upload_state(bytes);
});
