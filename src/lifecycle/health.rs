//! gRPC health, and the gauge of the upstream: both follow the events that change readiness.
//!
//! The service is our own: that of `tonic-health` ends a watch of a name that it does not know,
//! where gRPC demands SERVICE_UNKNOWN and later news.
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use tonic::codegen::tokio_stream::wrappers::WatchStream;
use tonic::codegen::tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::Readiness;
use crate::telemetry::metrics;

/// The services that stand for the whole sidecar: TF Serving's own short names, and the full names
/// that gRPC recommends.
const SERVICES: [&str; 5] = [
    "",
    "PredictionService",
    "ModelService",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
];

/// The names that have a status.
type Statuses = Arc<BTreeMap<String, ServingStatus>>;

/// Reports the status of the sidecar and of each model.
#[derive(Debug)]
pub(crate) struct Health {
    statuses: watch::Sender<Statuses>,
    readiness: Readiness,
}

/// Answers clients what was reported last.
#[derive(Debug, Clone)]
pub(crate) struct HealthService(watch::Receiver<Statuses>);

impl Health {
    pub(crate) fn new(readiness: Readiness) -> Self {
        let health = Self { statuses: watch::Sender::default(), readiness };
        health.update();
        health
    }

    pub(crate) fn service(&self) -> HealthService {
        HealthService(self.statuses.subscribe())
    }

    /// Updates whenever something changes that readiness depends on. Runs forever.
    pub(crate) async fn run(self) {
        loop {
            self.readiness.changed().await;
            self.update();
        }
    }

    fn update(&self) {
        let readiness = &self.readiness;
        let status = |serving: bool| if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        metrics::upstream_up(readiness.is_upstream_answering());
        let models = readiness.models().into_iter().map(|model| {
            let ready = status(readiness.is_model_ready(&model));
            (model, ready)
        });
        let services = SERVICES.map(|service| (service.to_owned(), status(readiness.is_ready())));
        let statuses: BTreeMap<_, _> = models.chain(services).collect();
        self.statuses.send_if_modified(|before| {
            let changed = **before != statuses;
            if changed {
                *before = Arc::new(statuses);
            }
            changed
        });
    }
}

#[tonic::async_trait]
impl health_server::Health for HealthService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.0.borrow().get(&request.get_ref().service).copied();
        match status {
            Some(status) => Ok(Response::new(HealthCheckResponse { status: status.into() })),
            None => Err(Status::not_found("no such service or model")),
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let mut last = None;
        let news = WatchStream::new(self.0.clone()).filter_map(move |statuses| {
            let status = statuses.get(&service).copied().unwrap_or(ServingStatus::ServiceUnknown);
            let is_news = last.replace(status) != Some(status);
            is_news.then(|| Ok(HealthCheckResponse { status: status.into() }))
        });
        Ok(Response::new(Box::pin(news)))
    }
}
