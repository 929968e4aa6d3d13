//! The metrics of the whole process: requests in flight, the upstream, and signature refreshes.
use std::borrow::Cow;
use std::sync::OnceLock;

use metrics::{Gauge, Histogram};

use super::install;
use crate::telemetry::labels::{Cause, RefreshOutcome, Stage};
use crate::telemetry::table;

struct Globals {
    stages: Box<[Histogram]>,
    inflight_requests: Gauge,
    inflight_bytes: Gauge,
    upstream_connections: Gauge,
    upstream_up: Gauge,
}

fn globals() -> &'static Globals {
    static GLOBALS: OnceLock<Globals> = OnceLock::new();
    GLOBALS.get_or_init(|| {
        install();
        let stage = |stage: &Stage| table::STAGE_SECONDS.histogram([stage.as_str().into()]);
        Globals {
            stages: Stage::ALL.iter().map(stage).collect(),
            inflight_requests: table::INFLIGHT_REQUESTS.gauge([]),
            inflight_bytes: table::INFLIGHT_BYTES.gauge([]),
            upstream_connections: table::UPSTREAM_CONNECTIONS.gauge([]),
            upstream_up: table::UPSTREAM_UP.gauge([]),
        }
    })
}

/// Records the time that a request spent in a stage.
pub(crate) fn stage_seconds(stage: Stage, seconds: f64) {
    globals().stages[stage as usize].record(seconds);
}

/// A request in flight, counted until dropped.
#[derive(Debug)]
pub(crate) struct Inflight {
    bytes: u64,
}

impl Inflight {
    pub(crate) fn new() -> Self {
        globals().inflight_requests.increment(1.0);
        Self { bytes: 0 }
    }

    /// Counts bytes of its messages as they arrive.
    pub(crate) fn add_bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
        globals().inflight_bytes.increment(bytes as f64);
    }
}

impl Drop for Inflight {
    fn drop(&mut self) {
        globals().inflight_requests.decrement(1.0);
        globals().inflight_bytes.decrement(self.bytes as f64);
    }
}

/// An open connection to TF Serving, counted until dropped.
#[derive(Debug)]
pub(crate) struct UpstreamConnection(());

impl UpstreamConnection {
    pub(crate) fn new() -> Self {
        globals().upstream_connections.increment(1.0);
        Self(())
    }
}

impl Drop for UpstreamConnection {
    fn drop(&mut self) {
        globals().upstream_connections.decrement(1.0);
    }
}

/// Counts a request that TF Serving refused before running it.
pub(crate) fn upstream_refusal(cause: Cause) {
    install();
    table::UPSTREAM_REFUSALS.counter([cause.as_str().into()]).increment(1);
}

/// Counts a request that is sent to TF Serving again.
pub(crate) fn retry(cause: Cause) {
    install();
    table::RETRIES.counter([cause.as_str().into()]).increment(1);
}

/// Sets the gauges of the limiter, in numbers of requests.
pub(crate) fn set_limiter(limit: usize, withheld: usize, inflight: usize, queued: usize) {
    install();
    table::UPSTREAM_LIMIT.gauge([]).set(limit as f64);
    table::UPSTREAM_WITHHELD.gauge([]).set(withheld as f64);
    table::UPSTREAM_INFLIGHT.gauge([]).set(inflight as f64);
    table::QUEUED_REQUESTS.gauge([]).set(queued as f64);
}

/// Sets whether TF Serving can be reached.
pub(crate) fn upstream_up(up: bool) {
    globals().upstream_up.set(if up { 1.0 } else { 0.0 });
}

/// Counts a refresh of a model's signatures. `model` is a name from TF Serving or the
/// configuration.
pub(crate) fn signature_refresh(model: &str, ok: bool) {
    install();
    let outcome = if ok { RefreshOutcome::Ok } else { RefreshOutcome::Failed };
    table::SIGNATURE_REFRESHES.counter([Cow::Owned(model.to_owned()), outcome.as_str().into()]).increment(1);
}

/// Sets how many settings of a configured model match nothing that it declares.
pub(crate) fn set_config_problems(model: &str, problems: usize) {
    install();
    table::CONFIG_PROBLEMS.gauge([Cow::Owned(model.to_owned())]).set(problems as f64);
}

/// Counts a refresh that found changed signatures, for such a `model`.
pub(crate) fn signature_change(model: &str) {
    install();
    table::SIGNATURE_CHANGES.counter([Cow::Owned(model.to_owned())]).increment(1);
}
