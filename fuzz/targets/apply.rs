//! The fuzz target `apply`: libFuzzer's bytes for the body of this name.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tfs_sidecar_fuzz::apply(data));
