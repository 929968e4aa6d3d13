//! Invented names of clients and models: what they may cost is bounded.
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::support::admin::Metrics;
use crate::support::client::{Client, Request};
use crate::support::dense::{self, CASE, INPUT};
use crate::support::fake_tfs::FakeTfs;
use crate::support::process::Process;
use crate::support::requests::{Predict, floats};

const NAMES: usize = 100_000;
/// Of these, every fourth request is for a model that does not exist.
const UNKNOWN_MODEL: usize = 4;
const STREAMS: usize = 16;
/// Clients and series that may be named (`max_clients`, and docs/operations.md).
const MAX_SERIES: usize = 2048;

/// Sends a wrong request under each of these numbers.
async fn send(client: &Arc<Client>, from: usize, to: usize) {
    let mut workers = JoinSet::new();
    for worker in 0..STREAMS {
        let client = Arc::clone(client);
        workers.spawn(async move {
            for number in (from + worker..to).step_by(STREAMS) {
                let model =
                    if number % UNKNOWN_MODEL == 0 { format!("model-{number}") } else { "mlp".to_owned() };
                // Repaired, refused, and refused with a shape of its own.
                let width = [128, 127, number as i64 % 100 + 1][number % 3];
                let shape = if width == 128 { vec![128] } else { vec![1, width] };
                let values = &CASE.input_tensor[..width as usize];
                let message = Predict::new(&model).input(INPUT, floats(&shape, values)).bytes();
                let request = Request::predict(&message)
                    .metadata("user-agent", &format!("agent-{number}/1.{number} grpc-go/1.{number}"))
                    .metadata("x-client-id", &format!("client-{number}"));
                client.call(request).await;
            }
        });
    }
    workers.join_all().await;
}

#[tokio::test]
async fn a_hundred_thousand_invented_names_cost_two_megabytes() {
    let fake = FakeTfs::start([dense::model()]);
    // The traffic census, which has a bound of its own, keeps the forms of these requests.
    let yaml = "client_identity: [{metadata: x-client-id}, user_agent]\ntraffic_census: off";
    let sidecar = Process::start(fake.addr(), yaml);
    sidecar.ready().await;
    let client = Arc::new(Client::connect(&sidecar.grpc).await);
    let series = async || {
        let metrics = Metrics::read(&sidecar.admin).await;
        metrics.text().lines().filter(|line| !line.starts_with('#')).count()
    };
    let page = async |path: &str| crate::support::admin::get(&sidecar.admin, path).await.body;
    // Everything that the process allocates once: buffers, stacks, the maps of the metrics.
    for _ in 0..200 {
        send(&client, 0, 50).await;
    }
    let (series_before, memory_before) = (series().await, sidecar.memory());
    send(&client, 50, NAMES).await;
    let (series_after, memory_after) = (series().await, sidecar.memory());
    let (more, grown) = (series_after - series_before, memory_after - memory_before);
    let lists = [page("/api/clients").await, page("/api/fixes").await, page("/api/repairs").await];
    eprintln!(
        "{NAMES} invented names: {more} series and {grown:.2} MiB more; lists of {:?} bytes",
        lists.each_ref().map(String::len)
    );
    assert!(more <= MAX_SERIES, "{more} series more");
    assert!(grown <= 2.0, "{grown} MiB more");
    assert!(lists.iter().all(|list| list.len() < 1 << 20));
}
