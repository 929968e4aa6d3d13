//! The fuzz target `image_door`: passes libFuzzer's bytes to the body of the same name.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tfs_sidecar_fuzz::image_door(data));
