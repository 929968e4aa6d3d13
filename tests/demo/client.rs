//! Sends requests with tonic's own client, as a user's program would.
use std::time::Duration;

use tfs_sidecar::proto::tensorflow::serving::prediction_service_client::PredictionServiceClient;
use tfs_sidecar::proto::tensorflow::serving::{GetModelMetadataRequest, ModelSpec, PredictRequest};
use tfs_sidecar::signature::Signatures;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt as _;

use crate::support::dense::{self, MODEL, OUTPUT};

pub(crate) struct Client(PredictionServiceClient<Channel>);

/// What came back.
#[derive(Debug)]
pub(crate) enum Answer {
    Probabilities { rows: Vec<(usize, f32)>, same: bool, repairs: Vec<String> },
    Refused { code: tonic::Code, text: String, reason: Option<String> },
}

impl Client {
    pub(crate) async fn connect(addr: &str) -> Self {
        Self::connect_as(addr, "tfs-sidecar-demo").await
    }

    /// With a user agent.
    pub(crate) async fn connect_as(addr: &str, agent: &'static str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("host:port makes a URI");
        let endpoint = endpoint.user_agent(agent).expect("a user agent is printable");
        let channel = endpoint.timeout(Duration::from_secs(30)).connect().await;
        let channel = channel.unwrap_or_else(|error| panic!("connecting to {addr}: {error}"));
        Self(PredictionServiceClient::new(channel))
    }

    /// Sends a request and ignores the answer.
    pub(crate) async fn send(&mut self, request: &PredictRequest) {
        self.0.predict(request.clone()).await.ok();
    }

    /// The signatures of the model.
    pub(crate) async fn signatures(&mut self) -> Signatures {
        let request = GetModelMetadataRequest {
            model_spec: Some(ModelSpec { name: MODEL.to_owned(), ..ModelSpec::default() }),
            metadata_field: vec!["signature_def".to_owned()],
        };
        let response = self.0.get_model_metadata(request).await.expect("the model is served");
        Signatures::from_metadata(response.get_ref()).expect("the model has signatures").0
    }

    pub(crate) async fn predict(&mut self, request: &PredictRequest) -> Answer {
        match self.0.predict(request.clone()).await {
            Ok(response) => {
                let values = response.metadata().get_all("tfs-sidecar-repair").iter();
                let repairs = values.map(|value| value.to_str().unwrap_or("?").to_owned()).collect();
                let outputs = response.into_inner().outputs;
                let probs = outputs
                    .get(OUTPUT)
                    .map(|tensor| dense::floats(tensor, elements(tensor)))
                    .unwrap_or_default();
                Answer::of(&probs, repairs)
            }
            Err(status) => Answer::Refused {
                code: status.code(),
                text: status.message().to_owned(),
                reason: status.get_error_details().error_info().map(|info| info.reason.clone()),
            },
        }
    }
}

impl Answer {
    /// The probabilities of all rows, ten for each.
    pub(crate) fn of(probs: &[f32], repairs: Vec<String>) -> Self {
        let rows: Vec<&[f32]> = probs.chunks_exact(10).collect();
        Self::Probabilities {
            same: !rows.is_empty() && rows.iter().all(|row| dense::is_case(row)),
            rows: rows.into_iter().map(dense::top).collect(),
            repairs,
        }
    }

    /// The answer as a cell of the table.
    pub(crate) fn cell(&self) -> String {
        match self {
            Self::Probabilities { rows, same, .. } => {
                let rows =
                    rows.iter().map(|(class, probability)| format!("class {class}  p={probability:.6}"));
                let rows = rows.collect::<Vec<_>>().join("\n");
                if *same { rows } else { format!("{rows}\n(OK, but silently wrong)") }
            }
            Self::Refused { code, text, .. } => {
                // A kernel's text ends with a graph node that means nothing to the reader.
                let text = text.split("\n\t [[").next().unwrap_or_default();
                format!("{code:?}: {text}")
            }
        }
    }
}

fn elements(tensor: &tfs_sidecar::proto::tensorflow::TensorProto) -> usize {
    dense::dims(tensor).iter().product::<i64>().try_into().unwrap_or_default()
}
