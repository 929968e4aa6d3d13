//! The `tfs-sidecar` program.
fn main() {}
