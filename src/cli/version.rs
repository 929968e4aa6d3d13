//! What `--version` says: the version, and of which commit and with which features it was built.

/// `0.1.0 (3f2a9c1d04be, tls)`.
pub(super) const LONG: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("BUILD_COMMIT"), env!("BUILD_FEATURES"), ")");
