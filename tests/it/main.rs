//! The integration tests: one binary, so that they link once.
#![expect(clippy::unwrap_used, reason = "clippy allows it in test functions, not in their helpers")]

mod cli;
