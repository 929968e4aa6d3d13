//! The integration tests: one binary, so that they link once.
#[path = "../support/mod.rs"]
mod support;

mod admin;
mod drain;
mod faults;
mod founder;
mod health;
mod limits;
mod passthrough;
mod refusals;
mod stand_in;
mod tidy;
mod versions;
