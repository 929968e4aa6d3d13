//! The metadata client: which versions of a model TF Serving serves, and their signatures.
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tonic::Code;

use super::fetch::predict_over;
use super::problems::load_error;
use crate::fault::Fault;
use crate::proto::tensorflow::serving::model_spec::VersionChoice as Choice;
use crate::proto::tensorflow::serving::model_version_status::State;
use crate::proto::tensorflow::serving::{
    GetModelMetadataRequest, GetModelMetadataResponse, GetModelStatusRequest, GetModelStatusResponse,
    ModelSpec, ModelVersionStatus,
};
use crate::signature::Signatures;
use crate::signature::metadata::METADATA_FIELD;
use crate::upstream::pool::Pool;
use crate::upstream::unary;
use crate::upstream::up::Up;
use crate::wire::{Rope, VersionChoice};

const METADATA: &str = "/tensorflow.serving.PredictionService/GetModelMetadata";
const STATUS: &str = "/tensorflow.serving.ModelService/GetModelStatus";

/// TF Serving locks its table of models while it loads one, which can take a while.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A request that is not answered by then may have met a server that hangs: its connections are
/// checked with a PING while the request waits on.
const SUSPECT_AFTER: Duration = Duration::from_secs(2);

/// What GetModelStatus says of one version.
#[derive(Debug, Clone)]
pub(super) struct VersionState {
    pub(super) version: i64,
    pub(super) state: State,
    /// Why it failed to load, if it did.
    pub(super) error: Option<String>,
}

impl From<ModelVersionStatus> for VersionState {
    fn from(status: ModelVersionStatus) -> Self {
        let error = status.status.as_ref();
        let error = error.and_then(|status| load_error(status.error_code, &status.error_message));
        Self { version: status.version, state: status.state(), error }
    }
}

/// The versions that are served.
pub(super) fn available(versions: &[VersionState]) -> Vec<i64> {
    let served = versions.iter().filter(|version| version.state == State::Available);
    served.map(|version| version.version).collect()
}

/// Sends metadata requests, and keeps track of whether they are answered. A cheap handle.
#[derive(Debug, Clone)]
pub(super) struct MetadataClient {
    pool: Rc<Pool>,
    up: Arc<Up>,
}

impl MetadataClient {
    pub(super) fn new(pool: Rc<Pool>, up: Arc<Up>) -> Self {
        Self { pool, up }
    }

    /// Changes with each reconnect: another server, with other models under the same version
    /// numbers, may have taken the address.
    pub(super) fn generation(&self) -> u64 {
        self.pool.generation()
    }

    /// The versions that are served, or `None` when the server does not offer ModelService.
    pub(super) async fn available_versions(&self, model: &str) -> Result<Option<Vec<i64>>, Fault> {
        Ok(self.versions(model).await?.as_deref().map(available))
    }

    /// Every version that TF Serving lists, the highest first, or `None` when it does not offer
    /// ModelService.
    pub(super) async fn versions(&self, model: &str) -> Result<Option<Vec<VersionState>>, Fault> {
        let request = GetModelStatusRequest {
            model_spec: Some(ModelSpec { name: model.to_owned(), ..Default::default() }),
        };
        match self.call::<GetModelStatusResponse>(STATUS, &request, ANSWER_WITHIN).await {
            Ok(answer) => Ok(Some(answer.model_version_status.into_iter().map(VersionState::from).collect())),
            Err(Fault::Upstream { code: Code::Unimplemented, .. }) => Ok(None),
            Err(fault) => Err(unknown(model, fault)),
        }
    }

    /// Sends a Predict request of the sidecar's own.
    pub(super) async fn predict(&self, message: Rope) -> Result<Rope, Fault> {
        predict_over(&self.pool, message, ANSWER_WITHIN).await
    }

    /// The version that `choice` selects now, and its signatures.
    pub(super) async fn signatures(
        &self,
        model: &str,
        choice: &VersionChoice,
    ) -> Result<(i64, Signatures), Fault> {
        let answer = self.metadata(model, choice, ANSWER_WITHIN).await;
        let outcome = answer.map_err(|fault| unknown(model, fault)).and_then(|answer| {
            let (signatures, version) = Signatures::from_metadata(&answer).map_err(|error| {
                Fault::Internal { problem: format!("signatures of model '{model}': {error}") }
            })?;
            let version = match (version, choice) {
                (Some(version), _) => version,
                (None, VersionChoice::Version(version)) => *version,
                (None, VersionChoice::Latest | VersionChoice::Label(_)) => {
                    return Err(Fault::Internal {
                        problem: format!("the metadata of model '{model}' has no version"),
                    });
                }
            };
            Ok((version, signatures))
        });
        if let Err(fault) = &outcome {
            tracing::debug!(%model, error = %fault, "cannot read signatures");
        }
        outcome
    }

    /// The metadata as TF Serving sends it.
    pub(super) async fn metadata(
        &self,
        model: &str,
        choice: &VersionChoice,
        within: Duration,
    ) -> Result<GetModelMetadataResponse, Fault> {
        let version_choice = match choice {
            VersionChoice::Latest => None,
            VersionChoice::Version(version) => Some(Choice::Version(*version)),
            VersionChoice::Label(label) => Some(Choice::VersionLabel(label.clone())),
        };
        let spec = ModelSpec { name: model.to_owned(), signature_name: String::new(), version_choice };
        let request = GetModelMetadataRequest {
            model_spec: Some(spec),
            metadata_field: vec![METADATA_FIELD.to_owned()],
        };
        self.call(METADATA, &request, within).await
    }

    async fn call<Answer: prost::Message + Default>(
        &self,
        path: &'static str,
        request: &impl prost::Message,
        within: Duration,
    ) -> Result<Answer, Fault> {
        let mut call = std::pin::pin!(unary::call(&self.pool, path, request, within));
        let outcome = match tokio::time::timeout(SUSPECT_AFTER, &mut call).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.up.suspect();
                call.await
            }
        };
        if matches!(outcome, Err(Fault::Deadline { .. })) {
            self.up.suspect();
        }
        let address = &self.pool.target().address;
        match &outcome {
            Err(fault) if !is_answer(fault) => self.up.not_answered(address, fault),
            Ok(_) | Err(_) => self.up.answered(address),
        }
        outcome
    }
}

/// Whether a fault is TF Serving's own error status. UNAVAILABLE is what proxies on the path send,
/// and UNKNOWN stands for an answer without a gRPC status.
pub(super) fn is_answer(fault: &Fault) -> bool {
    matches!(fault, Fault::Upstream { code, .. } if !matches!(code, Code::Unavailable | Code::Unknown))
}

/// NOT_FOUND keeps TF Serving's text and gets a reason of ours.
fn unknown(model: &str, fault: Fault) -> Fault {
    match fault {
        Fault::Upstream { code: Code::NotFound, message } => {
            Fault::ModelUnknown { model: model.to_owned(), text: message }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bytes::Bytes;
    use http::{Response, StatusCode};
    use tokio::net::TcpListener;
    use tokio::task::spawn_local;

    use super::*;
    use crate::config::{Config, UpstreamAddr};
    use crate::upstream::target::Target;

    /// What the server does with every call.
    #[derive(Clone, Copy)]
    enum Act {
        Status(&'static str),
        NotGrpc,
        Reset,
        Close,
    }

    async fn serve(listener: TcpListener, act: Rc<Cell<Act>>) {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let act = Rc::clone(&act);
            spawn_local(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                while let Some(Ok((_request, mut respond))) = connection.accept().await {
                    let mut head = Response::<()>::default();
                    match act.get() {
                        Act::Status(code) => {
                            head.headers_mut().insert("grpc-status", code.parse().unwrap());
                        }
                        Act::NotGrpc => *head.status_mut() = StatusCode::NOT_FOUND,
                        Act::Reset => {
                            respond.send_reset(h2::Reason::INTERNAL_ERROR);
                            continue;
                        }
                        Act::Close => return,
                    }
                    let _: h2::SendStream<Bytes> = respond.send_response(head, true).unwrap();
                }
            });
        }
    }

    async fn connected(up: &Up, at_least: u64, client: &MetadataClient) {
        while up.count() == 0 || client.generation() < at_least {
            up.changed.notified().await;
        }
    }

    #[tokio::test]
    async fn the_upstream_is_up_while_it_is_connected_and_answers() {
        let test = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let act = Rc::new(Cell::new(Act::Status("5")));
            spawn_local(serve(listener, Rc::clone(&act)));
            let upstream = UpstreamAddr::Tcp { host: "127.0.0.1".into(), port };
            let target = Arc::new(Target::new(&Config { upstream, ..Config::default() }).unwrap());
            let up = Arc::new(Up::default());
            let client = MetadataClient::new(Pool::start(target, 1, &up), Arc::clone(&up));
            assert!(!up.is_answering(), "not connected yet");
            connected(&up, 1, &client).await;
            assert!(up.is_answering(), "nothing was asked yet");

            let cases = [
                (Act::Status("5"), true),
                (Act::Reset, false),
                (Act::Status("12"), true),
                (Act::Status("14"), false),
                (Act::Status("3"), true),
                (Act::NotGrpc, false),
            ];
            for (at, (what, expected)) in cases.into_iter().enumerate() {
                act.set(what);
                client.available_versions("m").await.ok();
                assert_eq!(up.is_answering(), expected, "{at}");
            }

            act.set(Act::Close);
            client.available_versions("m").await.unwrap_err();
            assert!(!up.is_answering());
            connected(&up, 2, &client).await;
            assert!(up.is_answering(), "a new connection");
        };
        tokio::task::LocalSet::new().run_until(test).await;
    }
}
