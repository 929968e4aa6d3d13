//! The integration tests: one binary, so that they link once.
#![expect(clippy::unwrap_used, reason = "clippy allows it in test functions, not in their helpers")]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod batch_dimension;
mod cli;
mod concurrency;
mod corpus;
mod decoding;
mod drain;
mod explain;
mod faults;
mod golden;
mod health;
mod layers;
mod limiter;
mod limits;
mod mistakes;
mod passthrough;
mod refusals;
mod repairs;
mod stand_in;
mod transport;
mod values;
mod verdict;
mod versions;
