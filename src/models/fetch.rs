//! A model's metadata for the command line: one request over a connection of its own.
use std::sync::Arc;
use std::time::Duration;

use super::metadata_client::MetadataClient;
use crate::config::Config;
use crate::fault::Fault;
use crate::proto::tensorflow::serving::GetModelMetadataResponse;
use crate::upstream::pool::Pool;
use crate::upstream::target::Target;
use crate::upstream::up::Up;
use crate::wire::VersionChoice;

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
    let internal = |error: &dyn std::fmt::Display| Fault::Internal { problem: error.to_string() };
    let target = Arc::new(Target::new(config).map_err(|error| internal(&error))?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| internal(&error))?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let up = Arc::new(Up::default());
        let client = MetadataClient::new(Pool::start(target, 1, &up), up);
        client.metadata(model, choice, within).await
    })
}
