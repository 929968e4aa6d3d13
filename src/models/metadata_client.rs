//! The two questions about models that TF Serving answers: which versions are served, and what a
//! version takes and gives.
use std::time::Duration;

use tonic::Code;

use crate::fault::Fault;
use crate::proto::tensorflow::serving::model_spec::VersionChoice as Choice;
use crate::proto::tensorflow::serving::model_version_status::State;
use crate::proto::tensorflow::serving::{
    GetModelMetadataRequest, GetModelMetadataResponse, GetModelStatusRequest, GetModelStatusResponse,
    ModelSpec,
};
use crate::signature::Signatures;
use crate::signature::metadata::METADATA_FIELD;
use crate::upstream::pool::Pool;
use crate::upstream::unary::call;
use crate::wire::VersionChoice;

const METADATA: &str = "/tensorflow.serving.PredictionService/GetModelMetadata";
const STATUS: &str = "/tensorflow.serving.ModelService/GetModelStatus";

/// A model table that is locked (a load under way) can take a while.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The versions that are served, or `None` when the server does not offer ModelService.
pub(super) async fn available(pool: &Pool, model: &str) -> Result<Option<Vec<i64>>, Fault> {
    let request = GetModelStatusRequest {
        model_spec: Some(ModelSpec { name: model.to_owned(), ..Default::default() }),
    };
    match call::<GetModelStatusResponse>(pool, STATUS, &request, ANSWER_WITHIN).await {
        Ok(answer) => {
            let versions = answer.model_version_status.iter();
            Ok(Some(
                versions
                    .filter(|status| status.state == State::Available as i32)
                    .map(|status| status.version)
                    .collect(),
            ))
        }
        Err(Fault::Upstream { code: Code::Unimplemented, .. }) => Ok(None),
        Err(fault) => Err(unknown(model, fault)),
    }
}

/// The concrete version that a choice means now, and its signatures.
pub(super) async fn metadata(
    pool: &Pool,
    model: &str,
    choice: &VersionChoice,
) -> Result<(i64, Signatures), Fault> {
    let version_choice = match choice {
        VersionChoice::Latest => None,
        VersionChoice::Version(version) => Some(Choice::Version(*version)),
        VersionChoice::Label(label) => Some(Choice::VersionLabel(label.clone())),
    };
    let spec = ModelSpec { name: model.to_owned(), signature_name: String::new(), version_choice };
    let request =
        GetModelMetadataRequest { model_spec: Some(spec), metadata_field: vec![METADATA_FIELD.to_owned()] };
    let answer = call::<GetModelMetadataResponse>(pool, METADATA, &request, ANSWER_WITHIN).await;
    let outcome = answer.map_err(|fault| unknown(model, fault)).and_then(|answer| {
        let (signatures, version) = Signatures::from_metadata(&answer).map_err(|error| Fault::Internal {
            problem: format!("signatures of model '{model}': {error}"),
        })?;
        let version = match (version, choice) {
            (Some(version), _) => version,
            (None, VersionChoice::Version(version)) => *version,
            (None, VersionChoice::Latest | VersionChoice::Label(_)) => {
                return Err(Fault::Internal {
                    problem: format!("expected the version of model '{model}', found none"),
                });
            }
        };
        Ok((version, signatures))
    });
    if let Err(fault) = &outcome {
        tracing::debug!(%model, error = %fault, "signatures not read");
    }
    outcome
}

/// NOT_FOUND keeps TF Serving's text and gets our reason.
fn unknown(model: &str, fault: Fault) -> Fault {
    match fault {
        Fault::Upstream { code: Code::NotFound, message } => {
            Fault::ModelUnknown { model: model.to_owned(), text: message }
        }
        other => other,
    }
}
