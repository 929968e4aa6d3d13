//! A model's metadata and state for the command line, and one answer of it: each over a connection
//! of its own.
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::metadata_client::MetadataClient;
use crate::config::Config;
use crate::fault::Fault;
use crate::proto::tensorflow::serving::GetModelMetadataResponse;
use crate::proto::tensorflow::serving::model_version_status::State;
use crate::upstream::pool::Pool;
use crate::upstream::target::Target;
use crate::upstream::unary;
use crate::upstream::up::Up;
use crate::wire::{Rope, VersionChoice};

const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";
/// The largest answer of a probe that is accepted.
const MAX_ANSWER: usize = 256 << 20;

/// Reads the metadata of the version that `choice` selects.
///
/// # Errors
/// No connection, no answer within the time, or TF Serving's error status.
pub(crate) fn metadata(
    config: &Config,
    model: &str,
    choice: &VersionChoice,
    within: Duration,
) -> Result<GetModelMetadataResponse, Fault> {
    connected(config, async |pool, up| MetadataClient::new(pool, up).metadata(model, choice, within).await)
}

/// A version of a model as TF Serving reports it.
#[derive(Debug, Clone)]
pub(crate) struct Reported {
    pub(crate) version: i64,
    /// The name of its state, such as `AVAILABLE`.
    pub(crate) state: &'static str,
    pub(crate) is_served: bool,
    pub(crate) is_loading: bool,
    /// Why it failed to load, if it did.
    pub(crate) error: Option<String>,
}

/// Reads the state of every version that TF Serving lists, the highest first. A server without
/// ModelService has none.
///
/// # Errors
/// No connection, no answer in time, or TF Serving's error status.
pub(crate) fn versions(config: &Config, model: &str, within: Duration) -> Result<Vec<Reported>, Fault> {
    let states = connected(config, async |pool, up| {
        let client = MetadataClient::new(pool, up);
        let late = |_| Fault::Deadline { during: "waiting for the state of the model's versions" };
        tokio::time::timeout(within, client.versions(model)).await.map_err(late)?
    })?;
    let versions = states.unwrap_or_default().into_iter().map(|it| Reported {
        version: it.version,
        state: it.state.as_str_name(),
        is_served: it.state == State::Available,
        is_loading: matches!(it.state, State::Start | State::Loading),
        error: it.error,
    });
    Ok(versions.collect())
}

/// Sends a Predict request and returns the answer.
///
/// # Errors
/// No connection, no answer in time, or TF Serving's error status.
pub(crate) fn predict(config: &Config, message: Rope, within: Duration) -> Result<Rope, Fault> {
    connected(config, async |pool, _| predict_over(&pool, message, within).await)
}

/// Sends a Predict request over a connection.
///
/// # Errors
/// As [`predict`].
pub(super) async fn predict_over(pool: &Pool, message: Rope, within: Duration) -> Result<Rope, Fault> {
    let late = |_| Fault::Deadline { during: "waiting for the answer of a probe" };
    tokio::time::timeout(within, unary::exchange(pool, PREDICT, message, MAX_ANSWER)).await.map_err(late)?
}

/// Runs `call` over a connection of its own.
fn connected<T>(
    config: &Config,
    call: impl AsyncFnOnce(Rc<Pool>, Arc<Up>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let internal = |error: &dyn std::fmt::Display| Fault::Internal { problem: error.to_string() };
    let target = Arc::new(Target::new(config).map_err(|error| internal(&error))?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| internal(&error))?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let up = Arc::new(Up::default());
        call(Pool::start(target, 1, &up), up).await
    })
}
