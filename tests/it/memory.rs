//! The memory of the program itself, beside a fake server: what a model's metadata takes, and what
//! stays after a peak.
use prost::bytes::Bytes;

use crate::support::admin;
use crate::support::client::{Client, Request};
use crate::support::dense::{self, INPUT};
use crate::support::fake_tfs::FakeTfs;
use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::process::Process;
use crate::support::requests::{PREDICT, Predict, floats};
use crate::support::within;

const FLOAT: i32 = 1;

#[tokio::test]
async fn a_model_with_very_many_signatures_takes_little_memory() {
    let signature = |number: usize| {
        Sig::new(&format!("signature_{number}")).input("x", FLOAT, &[-1, 2]).output("y", FLOAT, &[-1])
    };
    let fake = FakeTfs::start([Model::new("many").version(1, (0..50_000).map(signature))]);
    let program = Process::start(fake.addr(), "models: {many: {}}");
    program.ready().await;
    assert!(program.peak_memory() < 160.0, "{} MiB", program.peak_memory());
    let client = Client::connect(&program.grpc).await;
    let request = Predict::new("many").signature("signature_7").input("x", floats(&[1, 2], &[1.0, 2.0]));
    client.predict(&request.bytes()).await.ok();
}

#[tokio::test]
async fn memory_returns_after_a_peak() {
    const MANY: usize = 64;
    let fake = FakeTfs::start([dense::model()]);
    let program = Process::start(fake.addr(), "models: {mlp: {}}");
    program.ready().await;
    let client = Client::connect(&program.grpc).await;
    client.predict(&dense::conforming()).await.ok();
    let before = program.memory();
    // 1 MiB each.
    let rows = 2048;
    let message: Bytes = Predict::new(dense::MODEL)
        .input(INPUT, floats(&[rows, 128], &vec![0.0; 128 * rows as usize]))
        .bytes();
    let mut unfinished = Vec::new();
    for _ in 0..MANY {
        unfinished.push(client.stream(Request::new(PREDICT, &message).unfinished().chunks(16 << 10)).await);
    }
    let bytes = (MANY * message.len()) as f64;
    within("the peak", async {
        while admin::Metrics::read(&program.admin).await.sum("tfs_sidecar_inflight_bytes", &[]) < bytes {}
    })
    .await;
    let peak = program.memory();
    drop(unfinished);
    drop(client);
    within("the end of the peak", async {
        while admin::Metrics::read(&program.admin).await.sum("tfs_sidecar_inflight_bytes", &[]) > 0.0 {}
    })
    .await;
    assert!(peak > before + 60.0, "the peak is one: {before} MiB before, then {peak} MiB");
    within("less memory", async {
        while program.memory() > before + 8.0 {
            assert_eq!(admin::get(&program.admin, "/livez").await.status, 200);
        }
    })
    .await;
}
