//! The metrics of the runs that requests for one signature share.
use std::borrow::Cow;

use metrics::{Counter, Gauge, Histogram};

use super::install;
use crate::telemetry::labels::FlushCause;
use crate::telemetry::table;

/// Handles to the metrics of one signature. Those without a label for it are shared by the model.
#[derive(Debug)]
pub(crate) struct BatchMetrics {
    model: String,
    rows: Histogram,
    requests: Histogram,
    run_seconds: Histogram,
    flushes: [Counter; FlushCause::ALL.len()],
    divergence: Counter,
    rounding: Counter,
    batching: Gauge,
    run_cost: Gauge,
    row_cost: Gauge,
}

impl BatchMetrics {
    pub(crate) fn new(model: &str, signature: &str) -> Self {
        install();
        let name = || Cow::<'static, str>::Owned(model.to_owned());
        let names = || [name(), Cow::Owned(signature.to_owned())];
        let flushes =
            FlushCause::ALL.iter().map(|cause| table::BATCH_FLUSHES.counter([name(), cause.as_str().into()]));
        let flushes: Vec<Counter> = flushes.collect();
        let metrics = Self {
            model: model.to_owned(),
            rows: table::BATCH_ROWS.histogram([name()]),
            requests: table::BATCH_REQUESTS.histogram([name()]),
            run_seconds: table::BATCH_RUN_SECONDS.histogram([name()]),
            flushes: std::array::from_fn(|at| flushes[at].clone()),
            divergence: table::BATCH_DIVERGENCE.counter([name()]),
            rounding: table::BATCH_ROUNDING.counter([name()]),
            batching: table::BATCHING.gauge(names()),
            run_cost: table::BATCH_RUN_COST.gauge(names()),
            row_cost: table::BATCH_ROW_COST.gauge(names()),
        };
        metrics.batching.set(1.0);
        metrics
    }

    /// The model's name.
    pub(crate) fn model(&self) -> &str {
        &self.model
    }

    /// A run has started.
    pub(crate) fn run(&self, cause: FlushCause, requests: usize, rows: u64) {
        self.flushes[cause as usize].increment(1);
        self.requests.record(requests as f64);
        self.rows.record(rows as f64);
    }

    /// The answer of a run has begun.
    pub(crate) fn answered(&self, seconds: f64) {
        self.run_seconds.record(seconds);
    }

    /// A request did not share a run. `reason` is a word of a closed set.
    pub(crate) fn bypass(&self, reason: &'static str) {
        table::BATCH_BYPASS.counter([Cow::Owned(self.model.clone()), reason.into()]).increment(1);
    }

    /// A member's rows differ from those of a lone run.
    pub(crate) fn diverged(&self) {
        self.divergence.increment(1);
    }

    /// A member's rows differ from those of a lone run, but not from those of a run of copies.
    pub(crate) fn rounded(&self) {
        self.rounding.increment(1);
    }

    /// Requests for the signature share no runs any more.
    pub(crate) fn switched_off(&self) {
        self.batching.set(0.0);
    }

    /// Sets the learned costs, in microseconds.
    pub(crate) fn set_costs(&self, run: f64, row: f64) {
        self.run_cost.set(run / 1e6);
        self.row_cost.set(row / 1e6);
    }

    /// Sets the rows that wait for runs of a model.
    pub(crate) fn set_queue_rows(model: &str, rows: u64) {
        install();
        table::QUEUE_ROWS.gauge([Cow::Owned(model.to_owned())]).set(rows as f64);
    }
}
