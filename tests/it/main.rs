//! The integration tests: one binary, so that they link once.
#[path = "../support/mod.rs"]
mod support;

mod stand_in;
