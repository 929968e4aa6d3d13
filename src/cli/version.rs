//! What `--version` says: the version, and of which commit and with which features it was built.

/// `1.0.0 (3f2a9c1d04be, tls, image)`.
pub(super) const LONG: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("BUILD_COMMIT"), env!("BUILD_FEATURES"), ")");

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_names_the_features_of_the_build() {
        let features = [
            ("tls", cfg!(feature = "tls")),
            ("image", cfg!(feature = "image")),
            ("parquet", cfg!(feature = "parquet")),
            ("demo", cfg!(feature = "demo")),
        ];
        for (name, enabled) in features {
            assert_eq!(super::LONG.contains(&format!(", {name}")), enabled, "{name}: {}", super::LONG);
        }
    }
}
