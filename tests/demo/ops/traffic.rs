//! Five clients that go on sending requests, right and wrong ones.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tfs_sidecar::proto::tensorflow::TensorProto;
use tfs_sidecar::proto::tensorflow::serving::PredictRequest;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::support::dense::{CASE, INPUT};
use crate::support::requests::{Predict, doubles, floats};

pub(super) const CHURN: &str = "churn";
pub(super) const EMBED: &str = "embed";
/// The client that is fixed while the demo runs.
pub(super) const FIXED: &str = "fraud-scorer/2.3";

/// The clients; they stop on drop.
pub(super) struct Traffic {
    fixed: Arc<AtomicBool>,
    _clients: JoinSet<()>,
}

/// A client: its user agent, requests in a second, and its requests in turn.
struct Sender {
    agent: &'static str,
    rate: u32,
    requests: Vec<PredictRequest>,
}

impl Traffic {
    pub(super) async fn start(sidecar: &str) -> Self {
        let fixed = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for sender in senders() {
            let mut client = Client::connect_as(sidecar, sender.agent).await;
            let fixed = Arc::clone(&fixed);
            clients.spawn(async move {
                let mut ticks = tokio::time::interval(Duration::from_secs(1) / sender.rate);
                for request in sender.requests.iter().cycle() {
                    ticks.tick().await;
                    let fixed = sender.agent.starts_with(FIXED) && fixed.load(Ordering::Relaxed);
                    // The first one is right.
                    let request = if fixed { &sender.requests[0] } else { request };
                    client.send(request).await;
                }
            });
        }
        Self { fixed, _clients: clients }
    }

    /// From now on, the client [`FIXED`] sends only right requests.
    pub(super) fn fix(&self) {
        self.fixed.store(true, Ordering::Relaxed);
    }
}

fn senders() -> Vec<Sender> {
    let row = &CASE.input_tensor[..];
    let request = |model: &str, tensor: TensorProto| Predict::new(model).input(INPUT, tensor).message;
    let right = |model: &str| request(model, floats(&[1, 128], row));
    let named = |name: &str| Predict::new(CHURN).input(name, floats(&[1, 128], row)).message;
    vec![
        Sender {
            agent: "fraud-scorer/2.3 grpc-python/1.62.1",
            rate: 10,
            requests: vec![right(CHURN), request(CHURN, floats(&[128], row)), right(CHURN)],
        },
        Sender {
            agent: "ranker/1.8 grpc-go/1.60.0",
            rate: 4,
            requests: vec![right(CHURN), request(CHURN, doubles(&[1, 128], row))],
        },
        Sender {
            agent: "checkout/4.1 grpc-java-netty/1.58.0",
            rate: 5,
            requests: vec![
                right(CHURN),
                right(CHURN),
                request(CHURN, floats(&[1, 127], &row[1..])),
                named("features"),
            ],
        },
        Sender {
            agent: "web-frontend/7.0 grpc-node-js/1.9.5",
            rate: 6,
            requests: vec![
                right(EMBED),
                right(EMBED),
                request(EMBED, floats(&[128, 1], row)),
                right("embedd"),
            ],
        },
        Sender {
            agent: "reporting/3.0 grpc-dotnet/2.59.0",
            rate: 10,
            requests: vec![right(CHURN), right(EMBED)],
        },
    ]
}
