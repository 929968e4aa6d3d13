//! gRPC health, and the gauge of the upstream: both follow the events that change readiness.
use std::collections::BTreeSet;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

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

/// Reports the status of the sidecar and of each model.
#[derive(Debug)]
pub(crate) struct Health {
    reporter: HealthReporter,
    readiness: Readiness,
    /// The models that have a status.
    reported: BTreeSet<String>,
}

impl Health {
    pub(crate) fn new(reporter: HealthReporter, readiness: Readiness) -> Self {
        Self { reporter, readiness, reported: BTreeSet::new() }
    }

    /// Updates whenever something changes that readiness depends on. Runs forever.
    pub(crate) async fn run(mut self) {
        loop {
            self.readiness.changed().await;
            self.update().await;
        }
    }

    pub(crate) async fn update(&mut self) {
        let Self { reporter, readiness, reported } = self;
        let status = |serving: bool| if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        metrics::upstream_up(readiness.is_upstream_answering());
        let models = readiness.models();
        for model in &models {
            reporter.set_service_status(model, status(readiness.is_model_ready(model))).await;
        }
        for removed in reported.difference(&models) {
            reporter.clear_service_status(removed).await;
        }
        *reported = models;
        // Last, so that a client that sees the sidecar as ready finds every model ready.
        for service in SERVICES {
            reporter.set_service_status(service, status(readiness.is_ready())).await;
        }
    }
}
