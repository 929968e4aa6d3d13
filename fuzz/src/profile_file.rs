//! Target `profile_file`: reads arbitrary text as a profile, a schema and a scaler. There is no
//! panic, and a profile that is read is written as text that is read as the same.
use tfs_sidecar::dataset::{Schema, read_scaler};
use tfs_sidecar::profile::Profile;
use tfs_sidecar::profile::compare;

pub fn profile_file(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(scaler) = read_scaler(&text) {
        assert!((0..scaler.width()).all(|feature| scaler.affine(feature).is_some()));
    }
    let schema = Schema::parse(&text);
    match Profile::from_yaml(&text) {
        Ok(mut profile) => {
            is_written_and_read(&profile);
            for tensor in profile.inputs.values() {
                assert!(compare::features(&tensor.features, &tensor.features).is_empty());
            }
            if let Ok(schema) = schema {
                schema.apply(&mut profile);
            }
        }
        Err(problems) => assert!(!problems.0.is_empty()),
    }
}

/// Texts are compared, as NaN differs from itself.
pub fn is_written_and_read(profile: &Profile) {
    let text = profile.to_yaml();
    let read = Profile::from_yaml(&text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    assert_eq!(read.to_yaml(), text);
}
