//! An honest client: one connection, a steady rate of small requests, and a record of each answer.
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::client::{Client, Request};
use crate::support::dense;
use crate::support::rest::{Ask, Http};

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

/// Sends requests at a steady rate for so long, over gRPC.
pub(crate) async fn run(addr: &str, length: Duration) -> Record {
    let client = Arc::new(Client::connect(addr).await);
    at_a_rate(length, || {
        let client = Arc::clone(&client);
        async move {
            let outcome = client.try_call(Request::predict(&dense::conforming()).timeout(TIMEOUT)).await;
            match outcome {
                Ok(reply) if reply.code == 0 && !reply.message.is_empty() => Ok(()),
                Ok(reply) => Err(format!("code {}: {}", reply.code, reply.text)),
                Err(error) => Err(error.to_string()),
            }
        }
    })
    .await
}

/// The same over REST, on as many connections as are needed.
pub(crate) async fn run_rest(addr: &str, length: Duration) -> Record {
    let row = serde_json::to_string(&dense::CASE.input_tensor).unwrap();
    let ask = Arc::new(Ask::predict(dense::MODEL, format!(r#"{{"instances": [{row}]}}"#)).bytes());
    let idle: Arc<Mutex<Vec<Http>>> = Arc::default();
    at_a_rate(length, || {
        let (ask, idle, addr) = (Arc::clone(&ask), Arc::clone(&idle), addr.to_owned());
        async move {
            let call = async {
                let kept = idle.lock().unwrap().pop();
                let mut http = match kept {
                    Some(http) => http,
                    None => Http::connect(&addr).await,
                };
                http.send(&ask).await;
                let answer = http.read(true).await.ok_or("the connection is closed")?;
                if answer.status != 200 || !answer.text().contains("predictions") {
                    return Err(format!("{}: {}", answer.status, answer.text()));
                }
                idle.lock().unwrap().push(http);
                Ok(())
            };
            tokio::time::timeout(Duration::from_secs(5), call).await.unwrap_or_else(|_| Err("late".into()))
        }
    })
    .await
}

/// Each call is made when it is due, whether or not the earlier ones are answered, so that a stall
/// counts for all requests that fall into it.
async fn at_a_rate<F>(length: Duration, mut call: impl FnMut() -> F) -> Record
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let mut calls = JoinSet::new();
    let start = tokio::time::Instant::now();
    let mut ticks = tokio::time::interval_at(start, Duration::from_secs(1) / RATE);
    while start.elapsed() < length {
        ticks.tick().await;
        let call = call();
        calls.spawn(async move {
            let sent = Instant::now();
            let outcome = call.await;
            (sent.elapsed(), outcome)
        });
    }
    let mut record = Record::default();
    for (latency, outcome) in calls.join_all().await {
        match outcome {
            Ok(()) => record.latencies.push(latency),
            Err(failure) => record.failures.push(failure),
        }
    }
    record
}
