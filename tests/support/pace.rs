//! The pace of load: pauses that are part of what is tested, never a way to wait for something.
use std::time::Duration;

/// Pauses between two actions of a load generator, an attacker or a slow server.
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
