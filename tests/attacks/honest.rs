//! An honest client: one connection, a steady rate of small requests, and a record of each answer.
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::client::{Client, Request};
use crate::support::dense;

/// Requests a second. Low enough that the honest client never fills the machine by itself.
const RATE: u32 = 100;
const TIMEOUT: &str = "5S";

/// How the honest client fared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) latencies: Vec<Duration>,
    pub(crate) failures: Vec<String>,
}

impl Record {
    pub(crate) fn share_ok(&self) -> f64 {
        self.latencies.len() as f64 / (self.latencies.len() + self.failures.len()).max(1) as f64
    }

    /// The 99th percentile of the requests that were answered.
    pub(crate) fn p99(&self) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len().saturating_sub(1) * 99 / 100).copied().unwrap_or(Duration::MAX)
    }
}

/// Sends requests at a steady rate for so long. Each is sent when it is due, whether or not the
/// earlier ones are answered, so that a stall counts for all requests that fall into it.
pub(crate) async fn run(addr: &str, length: Duration) -> Record {
    let client = Arc::new(Client::connect(addr).await);
    let mut calls = JoinSet::new();
    let start = tokio::time::Instant::now();
    let mut ticks = tokio::time::interval_at(start, Duration::from_secs(1) / RATE);
    while start.elapsed() < length {
        ticks.tick().await;
        let client = Arc::clone(&client);
        calls.spawn(async move {
            let sent = Instant::now();
            let outcome = client.try_call(Request::predict(&dense::conforming()).timeout(TIMEOUT)).await;
            (sent.elapsed(), outcome)
        });
    }
    let mut record = Record::default();
    for (latency, outcome) in calls.join_all().await {
        match outcome {
            Ok(reply) if reply.code == 0 && !reply.message.is_empty() => record.latencies.push(latency),
            Ok(reply) => record.failures.push(format!("code {}: {}", reply.code, reply.text)),
            Err(error) => record.failures.push(error.to_string()),
        }
    }
    record
}
