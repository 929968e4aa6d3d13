//! What the integration tests and the demo share: a fake TensorFlow Serving, a raw gRPC client,
//! request builders, and the sidecar itself in this process.
//!
//! Only `sidecar.rs` and `engine.rs` know the proxy; the rest uses only the generated messages.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each binary that includes this uses a part of it, and support reports a broken test by a panic"
)]

pub mod admin;
#[cfg(test)]
pub mod attacks;
pub mod client;
#[cfg(test)]
pub mod collector;
pub mod dense;
#[cfg(test)]
pub mod dial;
pub mod engine;
pub mod fake_tfs;
pub mod folder;
#[cfg(test)]
pub mod frames;
pub mod framing;
pub mod pace;
pub mod process;
pub mod random;
pub mod raw;
pub mod relay;
pub mod requests;
pub mod rest;
pub mod sidecar;
pub mod sources;
pub mod tensor_values;
#[cfg(test)]
pub mod tls;
pub mod training;

use std::future::Future;
use std::time::Duration;

/// The longest time that a test waits for anything: a watchdog, never a means to synchronise.
pub const WATCHDOG: Duration = Duration::from_secs(20);

/// Awaits `future`; panics with `what` if it takes longer than [`WATCHDOG`].
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let outcome = tokio::time::timeout(WATCHDOG, future).await;
    outcome.unwrap_or_else(|_| panic!("{what}: did not happen within {WATCHDOG:?}"))
}
