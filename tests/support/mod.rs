//! What the integration tests, the demo and the benchmarks share: a stand-in for TensorFlow
//! Serving, a raw gRPC client, request builders.
//!
//! Nothing here but `sidecar.rs` knows the proxy; the rest needs only the generated messages.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each of the binaries that include this uses a part of it, and a panic is how support reports a broken test"
)]

pub mod admin;
pub mod client;
pub mod dense;
pub mod fake_tfs;
pub mod requests;
pub mod sidecar;

use std::future::Future;
use std::time::Duration;

/// The longest that a test waits for anything: a watchdog, never a means to synchronise.
pub const WATCHDOG: Duration = Duration::from_secs(20);

/// Awaits `future`, and panics with `what` when the watchdog strikes first.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let outcome = tokio::time::timeout(WATCHDOG, future).await;
    outcome.unwrap_or_else(|_| panic!("{what}: nothing within {WATCHDOG:?}"))
}
