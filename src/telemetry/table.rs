//! The table of metrics, one line each: kind, name, labels, help, buckets. No other file names a
//! metric.
use std::borrow::Cow;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString};

/// A metric, as declared in the table.
#[derive(Debug)]
pub(super) struct Metric {
    pub kind: Kind,
    pub name: &'static str,
    pub help: &'static str,
    pub labels: &'static [&'static str],
    /// Upper bounds of a histogram's buckets; empty for the other kinds.
    pub buckets: &'static [f64],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// From half a millisecond, the time of a small model, to half a minute.
const CALL: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// From a microsecond: a scan takes less, casting a large image takes about a millisecond.
const STAGE: &[f64] =
    &[0.000_001, 0.000_005, 0.000_025, 0.000_1, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0];

macro_rules! metrics_table {
    ($($kind:ident $constant:ident $name:literal [$($label:ident),*] $help:literal $($buckets:ident)?;)*) => {
        $(pub(super) static $constant: Metric = Metric {
            kind: Kind::$kind,
            name: concat!("tfs_sidecar_", $name),
            help: $help,
            labels: &[$(stringify!($label)),*],
            buckets: metrics_table!(@buckets $($buckets)?),
        };)*
        /// All metrics, in the order of the table.
        pub(super) static METRICS: &[&Metric] = &[$(&$constant),*];
    };
    (@buckets) => { &[] };
    (@buckets $buckets:ident) => { $buckets };
}

/// Rows or requests of a run.
const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

metrics_table! {
    Counter REQUESTS "requests_total" [model, version, signature, method, outcome, code, door] "Answered requests, by outcome and by the gRPC code that the client received.";
    Counter REPAIRS "repairs_total" [model, signature, input, rule, client, door] "Repairs; input is empty for a rule about the whole request.";
    Counter REJECTIONS "rejections_total" [model, signature, input, reason, client, door] "Requests that the sidecar rejected because of what was sent, by their first reason and its input, which is empty for the whole request. Overload and outages are not counted.";
    Counter WARNINGS "warnings_total" [model, signature, reason, client, door] "Warnings about requests that were forwarded. A request can have several.";
    Counter WOULD_REPAIR "would_repair_total" [model, signature, input, rule, client, door] "Repairs that mode repair would have made (mode observe and dry runs).";
    Counter WOULD_REJECT "would_reject_total" [model, signature, input, reason, client, door] "Requests that mode repair would have rejected (mode observe and dry runs), by their first reason.";
    Counter FINDINGS "preprocessing_findings_total" [model, signature, input, kind, client] "Requests whose values do not look like the training data (`profile`), by what was found. A request can have several.";
    Gauge DRIFT "feature_drift" [model, signature, input, feature] "How far the values of the last requests are from the training data, as population stability index. Each of the 16 features that are farthest; __other__ is the largest of the others.";
    Histogram REQUEST_SECONDS "request_duration_seconds" [model, method, door] "Time from the first byte of a request to the last byte of its answer." CALL;
    Histogram UPSTREAM_SECONDS "upstream_duration_seconds" [model, method] "Time that a request spent in TF Serving, network included." CALL;
    Histogram STAGE_SECONDS "stage_duration_seconds" [stage] "Time that a request spent in each stage." STAGE;
    Gauge INFLIGHT_REQUESTS "inflight_requests" [] "Requests in flight, those that wait for their client included.";
    Gauge INFLIGHT_BYTES "inflight_bytes" [] "Bytes of messages in flight that are held in memory.";
    Gauge OPEN_STREAMS "open_streams" [] "Open streams of methods that are not checked.";
    Gauge CONNECTIONS "connections" [] "Open client connections.";
    Counter CONNECTIONS_REFUSED "connections_refused_total" [limit] "Client connections that were closed at once because of a limit.";
    Counter CONNECTIONS_ENDED "connections_ended_total" [cause] "Client connections that were ended for what was sent on them: another protocol (http1, tls), or far more control frames or resets than calls need.";
    Gauge UPSTREAM_CONNECTIONS "upstream_connections" [] "HTTP/2 connections to TF Serving that accept new requests, including the one for metadata.";
    Gauge UPSTREAM_LIMIT "upstream_limit" [] "Concurrency limit towards TF Serving, configured or adaptive; 0 if unlimited.";
    Gauge UPSTREAM_WITHHELD "upstream_withheld_permits" [] "Permits of the concurrency limit that are kept back for a moment because TF Serving refused calls. If this is high for long, other clients hold its threads.";
    Gauge UPSTREAM_INFLIGHT "upstream_inflight" [] "Requests that hold a permit of the concurrency limit.";
    Gauge QUEUED_REQUESTS "queued_requests" [] "Requests that wait for a permit of the concurrency limit.";
    Counter UPSTREAM_REFUSALS "upstream_refusals_total" [cause] "Requests that TF Serving refused before running them, because it had no free thread or its batching queue was full.";
    Counter RETRIES "retries_total" [cause] "Retries of requests to TF Serving.";
    Histogram BATCH_ROWS "batch_rows" [model] "Rows of each run that requests share, before it is filled to an allowed size." COUNTS;
    Histogram BATCH_REQUESTS "batch_requests" [model] "Requests that share a run." COUNTS;
    Histogram BATCH_RUN_SECONDS "batch_run_seconds" [model] "Time of a run that requests share, from sending it until its answer begins." CALL;
    Counter BATCH_FLUSHES "batch_flushes_total" [model, cause] "Runs that requests share, by what made them start.";
    Counter BATCH_BYPASS "batch_bypass_total" [model, reason] "Requests that were sent alone although requests for their signature share runs and another run was in flight.";
    Counter BATCH_DIVERGENCE "batch_divergence_total" [model] "Members of shared runs whose rows differ from those of a lone run by more than rounding.";
    Counter BATCH_ROUNDING "batch_rounding_total" [model] "Members of shared runs whose rows differ from those of a lone run, but not from those of a run of as many copies: the difference is rounding that depends on the number of rows.";
    Gauge BATCHING "batching" [model, signature] "1 while requests for the signature may share runs, 0 after batching was switched off because its answers were wrong or TF Serving refused the runs.";
    Gauge QUEUE_ROWS "queue_rows" [model] "Rows of requests that wait for a run.";
    Gauge BATCH_RUN_COST "batch_run_cost_seconds" [model, signature] "Learned time of a run without the part that depends on its rows.";
    Gauge BATCH_ROW_COST "batch_row_cost_seconds" [model, signature] "Learned time that each row adds to a run.";
    Gauge UPSTREAM_UP "upstream_up" [] "1 while TF Serving is connected over HTTP/2 and answers; 0 without a connection, or if the last metadata request since connecting went unanswered.";
    Gauge READY "ready" [] "1 while the sidecar is ready for requests, as `/readyz` says: TF Serving connected, signatures of the declared models read, not draining.";
    Counter SIGNATURE_REFRESHES "signature_refreshes_total" [model, outcome] "Refreshes of a model's signatures.";
    Counter SIGNATURE_CHANGES "signature_changes_total" [model] "Refreshes that found changed signatures.";
    Gauge SIGNATURE_INFO "signature_info" [model, version, signature, input, dtype, shape] "1 for each input of each served signature.";
    Gauge MODEL_PROBLEM "model_problem" [model, version, kind] "1 for each reason why a model or one of its versions is not served. The version is empty for the whole model.";
    Gauge TRAFFIC_FORMS "traffic_forms" [] "Distinct forms of requests that the traffic census keeps, at most 2048.";
    Gauge FORECAST_REFUSED "forecast_refused_clients" [model] "Clients whose requests the last version with changed signatures refuses, and the one before did not, as the traffic census foretells; set when such a version appears.";
    Gauge CONFIG_PROBLEMS "config_problems" [model] "Settings of a configured model that have no effect, because its signatures do not have the name or their dtype cannot hold the value.";
    Gauge CERTIFICATE_EXPIRY "certificate_expiry_timestamp_seconds" [setting] "Unix time at which the certificates in the file of a setting expire: the first one of a chain, the last one of a bundle of authorities.";
    Counter CONFIG_RELOADS "config_reloads_total" [result] "Times that the configuration was read again, because its file changed or on SIGHUP, and was applied or refused.";
    Gauge CONFIG_LOADED "config_last_reload_success_timestamp_seconds" [] "Unix time at which the configuration in use was loaded.";
    Gauge CONFIG_REFUSED "config_refused" [] "1 while the configuration file as it is now is refused, so that an older one is in use.";
    Counter CERTIFICATE_RELOADS "certificate_reloads_total" [result] "Times that certificates, keys or authorities were read again alone, and were applied or refused.";
    Counter MODE_OVERRIDES "mode_overrides_total" [model, mode] "Modes that an operator changed for some time; the model is __all__ for all of them.";
    Gauge MODE_OVERRIDE "mode_override" [model, mode] "1 while an operator has changed the mode of a model, or of __all__.";
    Counter EVENTS_LEFT_OUT "events_left_out_total" [] "Events of repairs and refusals that were not logged, because the client had the same one less than 20 seconds before.";
    Counter LOG_LINES_LOST "log_lines_lost_total" [] "Log lines that were lost, because stderr is read too slowly and 4096 lines wait for it.";
    Counter PANICS "panics_total" [task] "Panics that ended a request or a connection: bugs in the sidecar. The log has the place.";
    Counter OTLP_SPANS "otlp_spans_total" [result] "Spans of traced requests, by what became of them (`otlp_endpoint`).";
    Gauge BUILD_INFO "build_info" [version] "1 for the running version.";
}

const METADATA: Metadata<'static> = Metadata::new("tfs_sidecar", Level::INFO, None);

impl Metric {
    /// The counter with these label values, which are in the order of `labels`.
    pub(super) fn counter<const N: usize>(&'static self, values: [Cow<'static, str>; N]) -> Counter {
        debug_assert_eq!(self.kind, Kind::Counter, "{}", self.name);
        metrics::with_recorder(|recorder| recorder.register_counter(&self.key(values), &METADATA))
    }

    /// As [`Self::counter`], for label values that are shared.
    pub(super) fn counter_of(&'static self, values: impl Iterator<Item = SharedString>) -> Counter {
        let labels = self.labels.iter().zip(values).map(|(name, value)| Label::new(*name, value));
        let key = Key::from_parts(self.name, labels.collect::<Vec<_>>());
        metrics::with_recorder(|recorder| recorder.register_counter(&key, &METADATA))
    }

    pub(super) fn gauge<const N: usize>(&'static self, values: [Cow<'static, str>; N]) -> Gauge {
        debug_assert_eq!(self.kind, Kind::Gauge, "{}", self.name);
        metrics::with_recorder(|recorder| recorder.register_gauge(&self.key(values), &METADATA))
    }

    pub(super) fn histogram<const N: usize>(&'static self, values: [Cow<'static, str>; N]) -> Histogram {
        debug_assert_eq!(self.kind, Kind::Histogram, "{}", self.name);
        metrics::with_recorder(|recorder| recorder.register_histogram(&self.key(values), &METADATA))
    }

    fn key<const N: usize>(&self, values: [Cow<'static, str>; N]) -> Key {
        assert_eq!(self.labels.len(), N, "a value for each label of {}", self.name);
        let labels = self.labels.iter().zip(values);
        Key::from_parts(self.name, labels.map(|(name, value)| label(name, value)).collect::<Vec<_>>())
    }
}

fn label(name: &'static str, value: Cow<'static, str>) -> Label {
    Label::new(name, SharedString::from(value))
}

/// Tells the recorder the help text of every metric.
pub(super) fn describe(recorder: &dyn Recorder) {
    for metric in METRICS {
        let (name, help) = (KeyName::from_const_str(metric.name), SharedString::const_str(metric.help));
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, None, help),
            Kind::Gauge => recorder.describe_gauge(name, None, help),
            Kind::Histogram => recorder.describe_histogram(name, None, help),
        }
    }
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::super::labels::{
        CODES, Cause, ConnectionLimit, Door, FlushCause, Method, ModelProblemKind, OutcomeLabel,
        PanickedTask, RefreshOutcome, SpanResult, Stage, code_name,
    };
    use super::*;

    #[test]
    fn names_follow_the_prometheus_conventions() {
        for metric in METRICS {
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert_eq!(metric.kind == Kind::Histogram, !metric.buckets.is_empty(), "{}", metric.name);
            assert!(metric.buckets.is_sorted() && metric.help.ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn the_documentation_lists_every_metric() {
        use std::fmt::Write as _;
        let mut text = "# Metrics\n\nGenerated from the table in `src/telemetry/table.rs`; to rewrite it, run `UPDATE=1 cargo test --lib`.\n\n\
            `GET /metrics` on the admin address returns these metrics in the Prometheus text format, and the usual `process_*` metrics. Label values are \
            words from the lists below, or names from TF Serving. A name that only a client sent becomes `__unknown__`. \
            `client` names the client (`client_identity` in [config.md](config.md)): the first `max_clients` names have their own label value, later ones and those \
            beyond 2048 series are `__other__`; a client that nothing names is `__unknown__`; with `client_identity: off` the value is empty. `version` is the version that \
            the request was checked against, `__unknown__` if its model is not known, and `__other__` for versions beyond the first 128 of a model.\n\n\
            | metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n"
            .to_owned();
        for metric in METRICS {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            writeln!(
                text,
                "| `{}` | {} | {} | {} |",
                metric.name,
                metric.kind.as_str(),
                labels.join(" "),
                metric.help
            )
            .unwrap();
        }
        let mut words = |label: &str, words: Vec<&str>| {
            writeln!(
                text,
                "- `{label}`: {}",
                words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ")
            )
            .unwrap();
        };
        words("method", Method::ALL.iter().map(|word| word.as_str()).collect());
        words("door", Door::ALL.iter().map(|word| word.as_str()).collect());
        words("outcome` of requests", OutcomeLabel::ALL.iter().map(|word| word.as_str()).collect());
        words(
            "outcome` of signature refreshes",
            RefreshOutcome::ALL.iter().map(|word| word.as_str()).collect(),
        );
        words("kind", ModelProblemKind::ALL.iter().map(|word| word.as_str()).collect());
        words("cause", Cause::ALL.iter().map(|word| word.as_str()).collect());
        words("cause` of runs", FlushCause::ALL.iter().map(|word| word.as_str()).collect());
        words(
            "reason` of requests that share no run",
            crate::batch::Bypass::ALL.iter().map(|why| why.as_str()).collect(),
        );
        words("task", PanickedTask::ALL.iter().map(|word| word.as_str()).collect());
        words("stage", Stage::ALL.iter().map(|word| word.as_str()).collect());
        words("code", (0..CODES).map(|number| code_name(Code::from_i32(number as i32))).collect());
        let text = text
            .replacen("- `method`", "\n## Label values\n\n- `method`", 1)
            .replace("` of requests`", "` of requests")
            .replace("` of signature refreshes`", "` of signature refreshes")
            .replace("` of runs`", "` of runs")
            .replace("` of requests that share no run`", "` of requests that share no run");
        let mut outcomes = "\n## Outcomes of requests\n\n| outcome | meaning |\n| --- | --- |\n".to_owned();
        for outcome in OutcomeLabel::ALL {
            writeln!(outcomes, "| `{}` | {} |", outcome.as_str(), outcome.about().trim()).unwrap();
        }
        outcomes += "\n## Kinds of model problems\n\n| kind | meaning |\n| --- | --- |\n";
        for kind in ModelProblemKind::ALL {
            writeln!(outcomes, "| `{}` | {} |", kind.as_str(), kind.about().trim()).unwrap();
        }
        outcomes += "\n## Results of spans\n\n| result | meaning |\n| --- | --- |\n";
        for result in SpanResult::ALL {
            writeln!(outcomes, "| `{}` | {} |", result.as_str(), result.about().trim()).unwrap();
        }
        outcomes += "\n## Limits of connections\n\n| limit | meaning |\n| --- | --- |\n";
        for limit in ConnectionLimit::ALL {
            writeln!(outcomes, "| `{}` | {} |", limit.as_str(), limit.about().trim()).unwrap();
        }
        let text = text + &outcomes + &super::super::questions::markdown();
        let buckets = METRICS.iter().filter(|metric| !metric.buckets.is_empty());
        let mut text = text + "\n## Buckets\n\nIn seconds where the name says so.\n\n";
        for metric in buckets {
            let bounds: Vec<String> = metric.buckets.iter().map(ToString::to_string).collect();
            writeln!(text, "- `{}`: {}", metric.name, bounds.join(" ")).unwrap();
        }
        crate::generated::assert_file("docs/metrics.md", &text);
    }
}
