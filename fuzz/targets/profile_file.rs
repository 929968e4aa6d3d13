//! The fuzz target `profile_file`: passes libFuzzer's bytes to the body of the same name.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tfs_sidecar_fuzz::profile_file(data));
