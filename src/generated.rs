//! Files that tests keep in step with the code: compared in a test run, rewritten under `UPDATE=1`.
use std::path::Path;

/// Compares a file of the repository with what it should say, or writes it when the variable
/// `UPDATE` is set.
pub(crate) fn assert_file(path: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some_and(|value| !value.is_empty()) {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(&path, expected).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is not what the code says; run the tests once with UPDATE=1",
        path.display()
    );
}
