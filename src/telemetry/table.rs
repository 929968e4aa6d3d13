//! Every metric, a line each: kind, name, labels, help, buckets. Nothing else names a metric.
use std::borrow::Cow;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString};

/// A metric as declared.
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

/// From half a millisecond, which a small model takes, to half a minute.
const CALL: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// From a microsecond: a scan takes less, a cast of a large image a millisecond.
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
        /// Every metric of the table, in its order.
        pub(super) static METRICS: &[&Metric] = &[$(&$constant),*];
    };
    (@buckets) => { &[] };
    (@buckets $buckets:ident) => { $buckets };
}

metrics_table! {
    Counter REQUESTS "requests_total" [model, signature, method, outcome, code] "Requests answered, by what became of them and the gRPC code that the client got.";
    Counter REPAIRS "repairs_total" [model, signature, input, rule] "Repairs made; input is empty for a rule of the whole request.";
    Counter REJECTIONS "rejections_total" [model, signature, reason] "Requests refused here, by the first reason.";
    Counter WOULD_REPAIR "would_repair_total" [model, signature, input, rule] "Repairs that mode observe did not make.";
    Counter WOULD_REJECT "would_reject_total" [model, signature, reason] "Requests that mode observe did not refuse.";
    Histogram REQUEST_SECONDS "request_duration_seconds" [model, method] "From the first byte of a request to the last of its answer." CALL;
    Histogram UPSTREAM_SECONDS "upstream_duration_seconds" [model, method] "The part of a request that TF Serving took." CALL;
    Histogram STAGE_SECONDS "stage_duration_seconds" [stage] "The parts of a request." STAGE;
    Gauge INFLIGHT_REQUESTS "inflight_requests" [] "Requests being answered now.";
    Gauge INFLIGHT_BYTES "inflight_bytes" [] "Bytes of their messages.";
    Gauge UPSTREAM_CONNECTIONS "upstream_connections" [] "Open HTTP/2 connections to TF Serving.";
    Gauge UPSTREAM_LIMIT "upstream_limit" [] "Calls that may be in flight to TF Serving, adaptive or as configured; 0 when not limited.";
    Gauge UPSTREAM_INFLIGHT "upstream_inflight" [] "Calls that hold a permit of the limiter.";
    Gauge QUEUED_REQUESTS "queued_requests" [] "Requests that wait for a permit.";
    Counter UPSTREAM_REFUSALS "upstream_refusals_total" [cause] "Calls that TF Serving refused before running them, because it had no thread or its batching queue was full.";
    Counter RETRIES "retries_total" [cause] "Requests that were sent to TF Serving again.";
    Gauge UPSTREAM_UP "upstream_up" [] "Whether TF Serving answered the last time it was asked.";
    Counter SIGNATURE_REFRESHES "signature_refreshes_total" [model, outcome] "Readings of a model's signatures.";
    Counter SIGNATURE_CHANGES "signature_changes_total" [model] "Readings that found other signatures than before.";
    Gauge SIGNATURE_INFO "signature_info" [model, version, signature, input, dtype, shape] "1 for each input of each signature that is served.";
    Gauge BUILD_INFO "build_info" [version] "1 for the running version.";
}

const METADATA: Metadata<'static> = Metadata::new("tfs_sidecar", Level::INFO, None);

impl Metric {
    /// `values` in the order of `labels`.
    pub(super) fn counter<const N: usize>(&'static self, values: [Cow<'static, str>; N]) -> Counter {
        debug_assert_eq!(self.kind, Kind::Counter, "{}", self.name);
        metrics::with_recorder(|recorder| recorder.register_counter(&self.key(values), &METADATA))
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

/// Gives the recorder the help of every metric.
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

    use super::super::labels::{CODES, Cause, Method, OutcomeLabel, RefreshOutcome, Stage, code_name};
    use super::*;

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for metric in METRICS {
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert_eq!(metric.kind == Kind::Histogram, !metric.buckets.is_empty(), "{}", metric.name);
            assert!(metric.buckets.is_sorted() && metric.help.ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn the_documentation_lists_every_metric() {
        use std::fmt::Write as _;
        let mut text = "# Metrics\n\nWritten by a test from the table in `src/telemetry/table.rs`; rewrite it with `UPDATE=1 cargo test --lib`.\n\n\
            `GET /metrics` on the admin address, in Prometheus' text format; beside these, `process_*` of the program itself. Label values are words from \
            the lists below or names that TF Serving said; whatever only a client said is `__unknown__`.\n\n\
            | metric | kind | labels | |\n| --- | --- | --- | --- |\n"
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
        words("outcome` of requests", OutcomeLabel::ALL.iter().map(|word| word.as_str()).collect());
        words(
            "outcome` of signature readings",
            RefreshOutcome::ALL.iter().map(|word| word.as_str()).collect(),
        );
        words("cause", Cause::ALL.iter().map(|word| word.as_str()).collect());
        words("stage", Stage::ALL.iter().map(|word| word.as_str()).collect());
        words("code", (0..CODES).map(|number| code_name(Code::from_i32(number as i32))).collect());
        let text = text
            .replacen("- `method`", "\n## Label values\n\n- `method`", 1)
            .replace("` of requests`", "` of requests")
            .replace("` of signature readings`", "` of signature readings");
        let buckets = METRICS.iter().filter(|metric| !metric.buckets.is_empty());
        let mut text = text + "\n## Buckets, in seconds\n\n";
        for metric in buckets {
            let bounds: Vec<String> = metric.buckets.iter().map(ToString::to_string).collect();
            writeln!(text, "- `{}`: {}", metric.name, bounds.join(" ")).unwrap();
        }
        crate::generated::assert_file("docs/metrics.md", &text);
    }
}
