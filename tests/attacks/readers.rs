//! Clients that do not read their answers.
use std::sync::Arc;

use crate::support::dense;
use crate::support::fake_tfs::FakeTfs;
use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::frames::{Reads, data_frames, open};
use crate::support::framing::frame;
use crate::support::requests::{FLOAT, PREDICT, Predict, content, floats};
use crate::trial::{BYTES_MIB, Trial, hold, hold_many};

/// Values in each answer of the model `large`: 5 MB.
const LARGE: usize = 1_250_000;

/// A model whose answers are 5 MB.
fn large() -> Model {
    let answer = content(FLOAT, &[1, LARGE as i64], vec![0u8; 4 * LARGE]);
    let signature = Sig::new("serving_default").input("x", FLOAT, &[-1, 1]).output("y", FLOAT, &[-1, -1]);
    Model::new("large").computing(
        1,
        [signature],
        Arc::new(move |_, _| Ok([("y".to_owned(), answer.clone())].into_iter().collect())),
    )
}

async fn trial(name: &'static str) -> Trial {
    let yaml = format!("limits: {{max_inflight_bytes: {BYTES_MIB}MiB}}\nmodels: {{large: {{}}, mlp: {{}}}}");
    Trial::with(name, FakeTfs::start([dense::model(), large()]), &yaml, BYTES_MIB).await
}

/// Calls for large answers on one connection.
fn calls(count: u32) -> Vec<u8> {
    let body = frame(&Predict::new("large").input("x", floats(&[1, 1], &[1.0])).bytes(), false);
    (0..count)
        .flat_map(|call| {
            let mut request = open(2 * call + 1, PREDICT);
            request.extend(data_frames(2 * call + 1, &body, 1 << 14));
            request
        })
        .collect()
}

#[tokio::test]
async fn answers_that_no_window_lets_through() {
    let trial = trial("24 answers of 5 MB for a client with a window of 0").await;
    trial.run(async |addr, stop| hold(&addr, &stop, 0, Reads::No, &calls(24)).await).await;
}

#[tokio::test]
async fn answers_that_stay_in_the_socket() {
    let trial = trial("24 answers of 5 MB that are not read, on 4 connections").await;
    trial.run(async |addr, stop| hold_many(&addr, &stop, 4, 0x7fff_ffff, Reads::No, &calls(6)).await).await;
}

#[tokio::test]
async fn clients_that_come_back_for_more() {
    let trial = trial("100 connections with an unread answer of 5 MB each").await;
    trial.run(async |addr, stop| hold_many(&addr, &stop, 100, 0, Reads::No, &calls(1)).await).await;
}
