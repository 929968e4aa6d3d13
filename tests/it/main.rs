//! The integration tests: one binary, so that they link once.
#![expect(clippy::unwrap_used, reason = "clippy allows it in test functions, not in their helpers")]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod cli;
mod corpus;
mod decoding;
mod drain;
mod explain;
mod faults;
mod founder;
mod golden;
mod governor;
mod health;
mod limits;
mod mistakes;
mod passthrough;
mod path;
mod refusals;
mod repairs;
mod stand_in;
mod tidy;
mod values;
mod verdict;
mod versions;
