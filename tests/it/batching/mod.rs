//! Requests that share a run of the model, end to end: who joins whom, what each gets back, and
//! what happens if a run goes wrong.
mod doubt;
mod faults;
mod sharing;
mod storm;

use std::sync::Arc;
use std::time::Duration;

use tfs_sidecar::config::Config;
use tfs_sidecar::proto::tensorflow::serving::PredictRequest;
use tfs_sidecar::repair::policy::Policy;

use prost::Message as _;
use prost::bytes::Bytes;

use crate::support::client::{Client, Reply, Request, Stream};
use crate::support::fake_tfs::model::{Compute, Model, Sig, echo};
use crate::support::fake_tfs::{Call, Gate};
use crate::support::pace::pause;
use crate::support::requests::{FLOAT, PREDICT, Predict, floats, outputs};
use crate::support::sidecar::Setup;
use crate::support::tensor_values::{Value, values};
use crate::support::within;

const WIDTH: i64 = 3;

/// The name of the test's model: its own, since all tests of the process share the metrics.
pub(crate) fn name() -> String {
    let thread = std::thread::current();
    let test = thread.name().expect("a test's thread has its name");
    test.rsplit("::").next().unwrap_or_default().to_owned()
}

/// `y` is `x`, row by row.
pub(crate) fn model() -> Model {
    computing(Arc::new(echo))
}

pub(crate) fn computing(compute: Compute) -> Model {
    Model::new(&name()).computing(1, [signature()], compute)
}

pub(crate) fn signature() -> Sig {
    Sig::new("serving_default").input("x", FLOAT, &[-1, WIDTH]).output("y", FLOAT, &[-1, WIDTH])
}

/// Batching is on, and answers of shared runs are used from the first one.
pub(crate) fn on(config: &mut Config) {
    batching(config, |_| {});
}

/// Batching is on, with further settings of the signature.
pub(crate) fn batching(config: &mut Config, change: impl FnOnce(&mut Policy)) {
    let mut policy = Policy::default();
    policy.batching.enabled = true;
    policy.batching.probation = 0;
    policy.batching.verify_sample = 0.0;
    change(&mut policy);
    let model = config.models.get_mut(&name()).expect("the model is declared");
    model.signatures.insert("serving_default".to_owned(), policy);
}

/// Rows that begin with these numbers.
pub(crate) fn rows(first: &[f32]) -> Bytes {
    let values: Vec<f32> = first.iter().flat_map(|value| [*value, value + 0.25, value + 0.5]).collect();
    Predict::new(&name()).input("x", floats(&[first.len() as i64, WIDTH], &values)).bytes()
}

/// The first number of each row of an answer.
pub(crate) fn firsts(reply: &Reply) -> Vec<f64> {
    let y = &outputs(&reply.message)["y"];
    let all: Vec<f64> = values(y).iter().map(number).collect();
    assert!(all.chunks(3).all(|row| row[1] == row[0] + 0.25 && row[2] == row[0] + 0.5), "{all:?}");
    let declared = y.tensor_shape.as_ref().unwrap();
    assert_eq!(declared.dim[0].size as usize, all.len() / 3, "the shape of {all:?}");
    all.chunks(3).map(|row| row[0]).collect()
}

pub(crate) fn number(value: &Value) -> f64 {
    match value {
        Value::Int(number) => *number as f64,
        Value::Real(number) => *number,
        other => panic!("expected a number, got {other:?}"),
    }
}

/// The rows that a call carried.
pub(crate) fn carried(call: &Call) -> Vec<f64> {
    let request = PredictRequest::decode(&call.message[..]).unwrap();
    values(&request.inputs["x"]).iter().map(number).step_by(3).collect()
}

/// A run that is held back at the server, so that what comes next has to wait.
pub(crate) struct Busy {
    gate: Gate,
    first: Stream,
}

impl Busy {
    /// Sends a request and waits until the server has it.
    pub(crate) async fn new(setup: &Setup) -> Self {
        Self::with(setup, Request::predict(&rows(&[900.0]))).await
    }

    /// The same with another request.
    pub(crate) async fn with(setup: &Setup, request: Request) -> Self {
        let before = setup.fake.count(PREDICT);
        let gate = setup.fake.hold(PREDICT, 1);
        let first = setup.client.stream(request).await;
        setup.fake.called(PREDICT, before + 1).await;
        Self { gate, first }
    }

    /// Lets the server answer.
    pub(crate) async fn end(self) {
        self.gate.open();
        let reply = within("the answer of the first run", self.first.finish()).await.unwrap().ok();
        assert_eq!(reply.initial("tfs-sidecar-batch"), [""; 0], "it was alone");
    }
}

/// What the page shows of the batching of the model.
pub(crate) async fn shown(setup: &Setup) -> serde_json::Value {
    let models: serde_json::Value =
        serde_json::from_str(&setup.sidecar.page("/api/models").await.body).unwrap();
    models[0]["versions"][0]["signatures"][0]["batching"].clone()
}

/// Waits until so many rows wait.
pub(crate) async fn queued(setup: &Setup, rows: u64) {
    within(&format!("{rows} rows in the queue"), async {
        while shown(setup).await["queue_rows"] != rows {
            pause(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A metric of the test's model.
pub(crate) async fn metric(setup: &Setup, metric: &str, labels: &[(&str, &str)]) -> f64 {
    let name = name();
    let labels: Vec<(&str, &str)> = [("model", name.as_str())].iter().chain(labels).copied().collect();
    setup.sidecar.metrics().await.sum(&format!("tfs_sidecar_{metric}"), &labels)
}

/// Sends requests, one after the other, each when the one before is in the queue.
pub(crate) async fn enqueue(
    setup: &Setup,
    client: &Client,
    requests: Vec<Request>,
    each: u64,
) -> Vec<Stream> {
    let mut streams = Vec::new();
    for request in requests {
        streams.push(client.stream(request).await);
        queued(setup, each * streams.len() as u64).await;
    }
    streams
}

pub(crate) async fn finish(streams: Vec<Stream>) -> Vec<Reply> {
    let mut replies = Vec::new();
    for stream in streams {
        replies.push(within("an answer", stream.finish()).await.expect("an answer"));
    }
    replies
}
