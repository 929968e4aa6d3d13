//! The integration tests: one binary, so that they link once.
#[test]
fn placeholder() {}
