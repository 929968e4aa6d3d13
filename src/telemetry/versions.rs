//! The versions of models in metrics: the first so many of each model have series of their own.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::clients::OTHER;

/// Versions of a model with series of their own, in the life of the process. The recorder cannot
/// remove the series of a version that is no longer served.
const MAX_VERSIONS: usize = 128;

static VERSIONS: Mutex<BTreeMap<String, BTreeSet<i64>>> = Mutex::new(BTreeMap::new());

/// The value of the label `version`. Both are from TF Serving.
pub(super) fn version_label(model: &str, version: i64) -> Arc<str> {
    let mut all = VERSIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let versions = all.entry(model.to_owned()).or_default();
    if versions.contains(&version) || (versions.len() < MAX_VERSIONS && versions.insert(version)) {
        version.to_string().into()
    } else {
        OTHER.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_versions_share_a_label_and_known_ones_keep_theirs() {
        let label = |version| version_label("versions", version);
        for version in 1..=MAX_VERSIONS as i64 {
            assert_eq!(*label(version), *version.to_string());
        }
        assert_eq!(*label(1_000), *OTHER);
        assert_eq!(*label(7), *"7");
        assert_eq!(*version_label("another model", 1_000), *"1000");
    }
}
