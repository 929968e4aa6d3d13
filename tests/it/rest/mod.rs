//! The REST listener over sockets, in front of the fake server.
mod answers;
mod bodies;
mod connections;
mod examples;
mod half_close;
mod hostile;
mod http2;
mod memory;
mod mistakes;
mod modes;
mod repairs;
mod sharing;

use tfs_sidecar::config::Config;

use crate::batching::name;
use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::requests::{FLOAT, INT64, UINT8};
use crate::support::rest::{Answer, Ask};
use crate::support::sidecar::{Setup, free};

/// A model of one input that answers with it.
fn echo(dtype: i32, dims: &[i64]) -> Model {
    let signature = Sig::new("serving_default").input("x", dtype, dims).output("y", dtype, dims);
    Model::new(&name()).version(1, [signature])
}

/// A model of two inputs that answers with the first.
fn pair() -> Model {
    let signature = Sig::new("serving_default").input("a", INT64, &[-1]).input("b", FLOAT, &[-1, 2]);
    Model::new(&name()).version(1, [signature.output("a", INT64, &[-1])])
}

async fn serve(model: Model) -> Setup {
    serve_with(model, |_| {}).await
}

async fn serve_with(model: Model, change: impl FnOnce(&mut Config)) -> Setup {
    Setup::with([model], |config| {
        config.rest_listen = Some(free());
        change(config);
    })
    .await
}

/// Sends a Predict request for the model of the test.
async fn predict(setup: &Setup, body: &str) -> Answer {
    Ask::predict(&name(), body).send(&setup.sidecar.rest).await
}

/// The sum of a metric of the model of the test.
async fn metric(setup: &Setup, metric: &str, labels: &[(&str, &str)]) -> f64 {
    let (metrics, name) = (setup.sidecar.metrics().await, name());
    let labels = [&[("model", name.as_str())], labels].concat();
    metrics.sum(&format!("tfs_sidecar_{metric}"), &labels)
}
