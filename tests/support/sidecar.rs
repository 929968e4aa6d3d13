//! The proxy under test, in this process. (Waits for the data path: the seam is `tfs_sidecar::server::Sidecar`.)
