//! Attacks on the running program, each beside an honest client on the same shard.
//!
//! An attack passes if the honest client keeps its success rate and its latency, and the memory of
//! the sidecar stays within the configured limits. `make attacks` runs them with the release build.
#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "the trials print what they measured, and helpers report a broken test by a panic"
)]

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod batching;
mod connections;
mod fairness;
mod floods;
mod framing;
mod honest;
mod memory;
mod names;
mod readers;
mod rest;
mod trial;
