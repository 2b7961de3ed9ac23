//! See `trow::fuzzing::peer_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trow::fuzzing::peer_frames(bytes);
});
