//! See `trow::fuzzing::challenges`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trow::fuzzing::challenges(bytes);
});
