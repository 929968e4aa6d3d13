//! What is counted of a request: once, at its end, under the labels that are known by then.
use std::sync::Arc;

use tokio::time::Instant;
use tonic::Code;

use super::call::now;
use crate::fault::Fault;
use crate::repair::{Outcome, Verdict};
use crate::telemetry::metrics::{self, Method, ModelMetrics, OutcomeLabel, Stage};

/// One request in this many has its stages timed: each takes two clock readings that the others are
/// spared.
const SAMPLE: u32 = 16;

/// Filled in on the way of a request.
#[derive(Debug)]
pub struct RequestMetrics {
    pub method: Method,
    arrived: Instant,
    metrics: Option<Arc<ModelMetrics>>,
    outcome: OutcomeLabel,
    sampled: bool,
}

impl RequestMetrics {
    pub fn new(method: Method, arrived: Instant, number: u32) -> Self {
        Self {
            method,
            arrived,
            metrics: None,
            outcome: OutcomeLabel::Passed,
            sampled: number.is_multiple_of(SAMPLE),
        }
    }

    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// The model and signature are in the catalog.
    pub fn served(&mut self, metrics: &Arc<ModelMetrics>) {
        self.metrics = Some(Arc::clone(metrics));
    }

    pub fn judged(&mut self, verdict: &Verdict) {
        self.outcome = match verdict.outcome {
            Outcome::Conforming => OutcomeLabel::Conforming,
            Outcome::Repaired => OutcomeLabel::Repaired,
            Outcome::Rejected => OutcomeLabel::Rejected,
            Outcome::Passed => OutcomeLabel::Passed,
        };
    }

    /// Times a stage of a sampled request.
    pub fn stage<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        if !self.sampled {
            return work();
        }
        let start = now();
        let done = work();
        metrics::stage_seconds(stage, start.elapsed().as_secs_f64());
        done
    }

    /// The upstream has begun to answer what was sent at `sent`.
    pub fn upstream(&self, sent: Instant) {
        let seconds = sent.elapsed().as_secs_f64();
        self.metrics().upstream_seconds(self.method, seconds);
        if self.sampled {
            metrics::stage_seconds(Stage::Upstream, seconds);
        }
    }

    pub fn metrics(&self) -> &ModelMetrics {
        self.metrics.as_deref().unwrap_or_else(|| metrics::unknown())
    }

    /// TF Serving has answered, or we have answered in its permit.
    pub fn answered(self, code: Code) {
        let metrics = self.metrics();
        metrics.request(self.method, self.outcome, code);
        metrics.request_seconds(self.method, self.arrived.elapsed().as_secs_f64());
    }

    pub fn failed(mut self, fault: &Fault) {
        if fault.is_rejection() {
            self.outcome = OutcomeLabel::Rejected;
            if let Some(reason) = fault.reason() {
                self.metrics().rejection(reason.as_str());
            }
        } else {
            self.outcome = OutcomeLabel::Failed;
        }
        self.answered(fault.code());
    }

    /// The client did not wait.
    pub fn gone(mut self) {
        self.outcome = OutcomeLabel::Failed;
        self.answered(Code::Cancelled);
    }
}
