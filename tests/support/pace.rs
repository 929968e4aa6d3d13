//! The pace of load: pauses that are part of what is tested, never a way to wait for something.
use std::time::Duration;

/// Pauses between two actions of a load generator, an attacker or a slow server.
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Holds the thread of a server for so long, as a model that runs on one core does.
#[expect(clippy::disallowed_methods, reason = "the server is to be blocked")]
pub fn hold(time: Duration) {
    std::thread::sleep(time);
}
