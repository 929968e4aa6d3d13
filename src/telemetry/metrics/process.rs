//! The metrics of the whole process: requests in flight, the upstream, and signature refreshes.
use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::SystemTime;

use metrics::{Counter, Gauge, Histogram};

use super::install;
use crate::telemetry::labels::{
    Cause, ConnectionLimit, PanickedTask, RefreshOutcome, ReloadResult, SpanResult, Stage,
};
use crate::telemetry::replaced::set_mode_override;
use crate::telemetry::table;

/// In the label `model`: all models.
pub(crate) const ALL_MODELS: &str = "__all__";

struct Globals {
    stages: Box<[Histogram]>,
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
            upstream_connections: table::UPSTREAM_CONNECTIONS.gauge([]),
            upstream_up: table::UPSTREAM_UP.gauge([]),
        }
    })
}

/// Adds the counters whose series are known beforehand, at 0: the first count of a series that
/// appears with it is lost to `rate` and `increase`.
pub(super) fn start_at_zero() {
    for cause in Cause::ALL {
        table::RETRIES.counter([cause.as_str().into()]).increment(0);
        if *cause != Cause::Connection {
            table::UPSTREAM_REFUSALS.counter([cause.as_str().into()]).increment(0);
        }
    }
    for task in PanickedTask::ALL {
        table::PANICS.counter([task.as_str().into()]).increment(0);
    }
    for limit in ConnectionLimit::ALL {
        table::CONNECTIONS_REFUSED.counter([limit.as_str().into()]).increment(0);
    }
}

/// Records the time that a request spent in a stage.
pub(crate) fn stage_seconds(stage: Stage, seconds: f64) {
    globals().stages[stage as usize].record(seconds);
}

/// Sets the gauges of what is in flight.
pub(crate) fn set_inflight(requests: usize, bytes: u64, streams: u64, connections: usize) {
    install();
    table::INFLIGHT_REQUESTS.gauge([]).set(requests as f64);
    table::INFLIGHT_BYTES.gauge([]).set(bytes as f64);
    table::OPEN_STREAMS.gauge([]).set(streams as f64);
    table::CONNECTIONS.gauge([]).set(connections as f64);
}

/// Counts a client connection that was closed because of a limit.
pub(crate) fn connection_refused(limit: ConnectionLimit) {
    install();
    table::CONNECTIONS_REFUSED.counter([limit.as_str().into()]).increment(1);
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

/// Sets how many log lines and events are missing in the log so far.
pub(crate) fn set_log_losses(lines: u64, events: u64) {
    install();
    table::LOG_LINES_LOST.counter([]).absolute(lines);
    table::EVENTS_LEFT_OUT.counter([]).absolute(events);
}

/// Counts a panic that ended a request or a connection.
pub(crate) fn panicked(task: PanickedTask) {
    install();
    table::PANICS.counter([task.as_str().into()]).increment(1);
}

/// Sets when the certificates of a setting expire, in Unix time.
#[cfg(feature = "tls")]
pub(crate) fn set_certificate_expiry(setting: &'static str, seconds: f64) {
    install();
    table::CERTIFICATE_EXPIRY.gauge([setting.into()]).set(seconds);
}

/// Counts a reload of the configuration.
pub(crate) fn config_reload(result: ReloadResult) {
    install();
    table::CONFIG_RELOADS.counter([result.as_str().into()]).increment(1);
    table::CONFIG_REFUSED.gauge([]).set(if result == ReloadResult::Refused { 1.0 } else { 0.0 });
}

/// Sets when the configuration in use was loaded.
pub(crate) fn config_loaded(at: SystemTime) {
    install();
    let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    table::CONFIG_LOADED.gauge([]).set(at.as_secs_f64());
    // It is 0 until a reload is refused.
    table::CONFIG_REFUSED.gauge([]).increment(0.0);
    // A rate needs a first value.
    for result in ReloadResult::ALL {
        table::CONFIG_RELOADS.counter([result.as_str().into()]).increment(0);
        table::CERTIFICATE_RELOADS.counter([result.as_str().into()]).increment(0);
    }
}

/// Counts a reload of the certificates alone.
pub(crate) fn certificate_reload(result: ReloadResult) {
    install();
    table::CERTIFICATE_RELOADS.counter([result.as_str().into()]).increment(1);
}

/// Counts a mode that an operator changes for some time.
pub(crate) fn mode_overridden(model: &str, mode: &'static str) {
    install();
    table::MODE_OVERRIDES.counter([Cow::Owned(model.to_owned()), mode.into()]).increment(1);
    set_mode_override(model, Some(mode));
}

/// Counts a client connection that was ended for what was sent on it.
pub(crate) fn connection_ended(cause: &'static str) {
    install();
    table::CONNECTIONS_ENDED.counter([cause.into()]).increment(1);
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

/// Sets whether the sidecar is ready for requests.
pub(crate) fn set_ready(ready: bool) {
    install();
    table::READY.gauge([]).set(if ready { 1.0 } else { 0.0 });
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

/// Sets how many forms of requests are kept.
pub(crate) fn set_traffic_forms(forms: usize) {
    install();
    table::TRAFFIC_FORMS.gauge([]).set(forms as f64);
}

/// Sets how many clients the last version with changed signatures refuses.
pub(crate) fn set_forecast(model: &str, refused: usize) {
    install();
    table::FORECAST_REFUSED.gauge([Cow::Owned(model.to_owned())]).set(refused as f64);
}

/// Counts a refresh that found changed signatures, for such a `model`. The first refresh adds the
/// count, so that the first change is an increase.
pub(crate) fn signature_change(model: &str, found: bool) {
    install();
    table::SIGNATURE_CHANGES.counter([Cow::Owned(model.to_owned())]).increment(found.into());
}

/// The numbers of spans by what became of them. All are there from the start.
#[derive(Clone)]
pub(crate) struct SpanMetrics([Counter; SpanResult::ALL.len()]);

impl std::fmt::Debug for SpanMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SpanMetrics")
    }
}

impl SpanMetrics {
    pub(crate) fn new() -> Self {
        install();
        Self([SpanResult::Exported, SpanResult::Dropped, SpanResult::Failed].map(|result| {
            let counter = table::OTLP_SPANS.counter([result.as_str().into()]);
            counter.increment(0);
            counter
        }))
    }

    pub(crate) fn count(&self, result: SpanResult, spans: u64) {
        self.0[result as usize].increment(spans);
    }
}
