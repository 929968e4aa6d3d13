//! One question to TF Serving from the command line: what a model declares.
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::fault::Fault;
use crate::proto::tensorflow::serving::{GetModelMetadataRequest, GetModelMetadataResponse, ModelSpec};
use crate::signature::metadata::METADATA_FIELD;
use crate::upstream::pool::{Pool, Up};
use crate::upstream::target::Target;
use crate::upstream::unary;

/// Asks for the metadata of the version that is served to requests which name none.
///
/// # Errors
/// No connection within the time, or what TF Serving answers.
pub fn metadata(config: &Config, model: &str, within: Duration) -> Result<GetModelMetadataResponse, Fault> {
    let internal = |error: &dyn std::fmt::Display| Fault::Internal { problem: error.to_string() };
    let target = Arc::new(Target::new(config).map_err(|error| internal(&error))?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| internal(&error))?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let pool = Pool::start(target, 1, &Arc::new(Up::default()));
        let spec = ModelSpec { name: model.to_owned(), ..ModelSpec::default() };
        let request = GetModelMetadataRequest {
            model_spec: Some(spec),
            metadata_field: vec![METADATA_FIELD.to_owned()],
        };
        unary::call(&pool, "/tensorflow.serving.PredictionService/GetModelMetadata", &request, within).await
    })
}
