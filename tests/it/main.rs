//! The integration tests: one binary, so that they link once.
#![expect(clippy::unwrap_used, reason = "clippy allows it in test functions, not in their helpers")]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod admission;
mod batch_dimension;
mod batch_probe;
mod batching;
mod cancellation;
mod census;
mod cli;
mod client_mistakes;
mod concurrency;
mod connections;
mod decoding;
mod dependencies;
mod documents;
mod drain;
mod events;
mod explain;
mod fake_tfs;
mod field;
mod fuzz_corpus;
mod golden;
mod health;
mod identity;
mod large_messages;
mod layers;
mod limiter;
mod limits;
mod linear;
mod malformed_requests;
mod memory;
mod mistakes;
mod model_versions;
mod modes;
mod names;
mod neighbours;
mod outcomes;
mod passthrough;
mod profiles;
mod readiness;
mod reflection;
mod refusals;
mod reload;
mod repairs;
mod repairs_docs;
mod rest;
mod style;
mod systemd;
mod traces;
mod transforms;
mod transport;
mod upstream_failures;
mod warnings;
