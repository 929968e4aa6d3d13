//! Clients and models that want everything.
use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::client::{Client, Request};
use crate::support::fake_tfs::{FakeTfs, Options};
use crate::support::pace::pause;
use crate::support::requests::{FLOAT, Predict, STATUS, floats, status_request};
use crate::support::sidecar::HEALTH_WATCH;
use crate::support::{dense, fake_tfs::model};
use crate::trial::{BYTES_MIB, Trial};

fn yaml() -> String {
    format!("limits: {{max_inflight_bytes: {BYTES_MIB}MiB}}")
}

/// Keeps so many calls in flight on one connection until the trial is over.
async fn greedy(addr: &str, stop: &tokio_util::sync::CancellationToken, calls: usize, request: Request) {
    let client = std::sync::Arc::new(Client::connect(addr).await);
    let mut loops = JoinSet::new();
    for _ in 0..calls {
        let (client, stop, request) = (client.clone(), stop.clone(), request.clone());
        loops.spawn(async move {
            loop {
                let outcome = tokio::select! {
                    () = stop.cancelled() => return,
                    outcome = client.try_call(request.clone()) => outcome,
                };
                // Refused or broken: an attacker does not wait long.
                if !outcome.is_ok_and(|reply| reply.code == 0) {
                    pause(Duration::from_millis(10)).await;
                }
            }
        });
    }
    loops.join_all().await;
}

#[tokio::test]
async fn one_client_with_thousands_of_calls() {
    let options = Options { max_threads: Some(8), ..Options::default() };
    let fake = FakeTfs::start_with(options, [dense::model()]);
    let trial = Trial::with("a client with 2,000 calls in flight", fake, &yaml(), BYTES_MIB).await;
    trial
        .run(async |addr, stop| greedy(&addr, &stop, 2_000, Request::predict(&dense::conforming())).await)
        .await;
}

#[tokio::test]
async fn status_calls_that_take_the_threads() {
    let options = Options { max_threads: Some(8), ..Options::default() };
    let fake = FakeTfs::start_with(options, [dense::model()]);
    let trial = Trial::with("64 streams of status calls", fake, &yaml(), BYTES_MIB).await;
    trial
        .run(async |addr, stop| {
            let request = Request::new(STATUS, &status_request(dense::MODEL));
            greedy(&addr, &stop, 64, request).await;
        })
        .await;
}

#[tokio::test]
async fn health_watches_by_the_thousand() {
    let trial = Trial::new("4,000 health watches").await;
    trial
        .run(async |addr, stop| {
            let client = Client::connect(&addr).await;
            let mut watches = Vec::new();
            while watches.len() < 4_000 && !stop.is_cancelled() && !client.is_closed() {
                watches.push(client.stream(Request::new(HEALTH_WATCH, b"")).await);
            }
            stop.cancelled().await;
        })
        .await;
}

#[tokio::test]
async fn names_of_models_that_do_not_exist() {
    let trial = Trial::new("unknown models by the thousand").await;
    trial
        .run(async |addr, stop| {
            let client = Client::connect(&addr).await;
            let mut number = 0u32;
            while !stop.is_cancelled() {
                number += 1;
                let message =
                    Predict::new(&format!("model-{number}")).input("x", floats(&[1, 1], &[1.0])).bytes();
                client.try_call(Request::predict(&message)).await.ok();
            }
        })
        .await;
}

#[tokio::test]
async fn a_slow_model_beside_a_fast_one() {
    let signature =
        model::Sig::new("serving_default").input("x", FLOAT, &[-1, 1]).output("y", FLOAT, &[-1, 1]);
    let slow = model::Model::new("slow").version(1, [signature]);
    let delays = [("slow".to_owned(), Duration::from_secs(1))].into_iter().collect();
    let options = Options { max_threads: Some(8), delays, ..Options::default() };
    let fake = FakeTfs::start_with(options, [dense::model(), slow]);
    let yaml = format!("{}\nmodels: {{slow: {{}}, mlp: {{}}}}", yaml());
    let trial = Trial::with("a model of 1 s with 200 calls in flight", fake, &yaml, BYTES_MIB).await;
    // It takes some seconds until it is known how long calls take and how many threads there are.
    trial
        .after(Duration::from_secs(8))
        .run(async |addr, stop| {
            let message = Predict::new("slow").input("x", floats(&[1, 1], &[1.0])).bytes();
            greedy(&addr, &stop, 200, Request::predict(&message)).await;
        })
        .await;
}
