//! What an operator asks, and the query that answers it, for docs/metrics.md.
use std::fmt::Write as _;

use super::table::{Kind, METRICS};

const QUESTIONS: &[(&str, &str)] = &[
    (
        "What share of the requests for each model does not conform?",
        r#"sum by (model) (rate(tfs_sidecar_requests_total{outcome=~"repaired|rejected|would_repair|would_reject"}[5m])) / sum by (model) (rate(tfs_sidecar_requests_total[5m]))"#,
    ),
    (
        "Who sends what that has to be repaired?",
        "topk(10, sum by (client, model, input, rule) (increase(tfs_sidecar_repairs_total[1h])))",
    ),
    (
        "Who is refused, and why?",
        "topk(10, sum by (client, model, input, reason) (increase(tfs_sidecar_rejections_total[1h])))",
    ),
    (
        "What was forwarded although it may not be what the client means?",
        "sum by (client, model, reason) (increase(tfs_sidecar_warnings_total[1h]))",
    ),
    (
        "Who sends values that do not look like the training data?",
        "topk(10, sum by (client, model, input, kind) (increase(tfs_sidecar_preprocessing_findings_total[1h])))",
    ),
    (
        "Which features drift from the training data?",
        "topk(16, max by (model, input, feature) (tfs_sidecar_feature_drift))",
    ),
    (
        "What would mode `repair` repair?",
        "sum by (model, input, rule, client) (increase(tfs_sidecar_would_repair_total[1d]))",
    ),
    (
        "What would mode `repair` refuse?",
        "sum by (model, input, reason, client) (increase(tfs_sidecar_would_reject_total[1d]))",
    ),
    (
        "Do more requests fail since the new version of a model?",
        r#"sum by (model, version) (rate(tfs_sidecar_requests_total{outcome=~"rejected|would_reject"}[5m]))"#,
    ),
    (
        "How much time does the sidecar add (median)?",
        "histogram_quantile(0.5, sum by (le) (rate(tfs_sidecar_request_duration_seconds_bucket[5m]))) - histogram_quantile(0.5, sum by (le) (rate(tfs_sidecar_upstream_duration_seconds_bucket[5m])))",
    ),
    (
        "Are requests refused because too many are in flight?",
        r#"sum by (model) (rate(tfs_sidecar_requests_total{outcome="overloaded"}[5m]))"#,
    ),
    (
        "Does TF Serving refuse calls because it has no free thread?",
        "sum by (cause) (rate(tfs_sidecar_upstream_refusals_total[5m]))",
    ),
    ("Which sidecars are not ready (`/readyz` says why)?", "tfs_sidecar_ready == 0"),
    ("How many requests had to be sent again?", "sum by (cause) (rate(tfs_sidecar_retries_total[5m]))"),
    (
        "Are client connections turned away?",
        "sum by (limit) (increase(tfs_sidecar_connections_refused_total[5m]))",
    ),
    (
        "Does anybody speak the wrong protocol, or flood a connection?",
        "sum by (cause) (increase(tfs_sidecar_connections_ended_total[5m]))",
    ),
    (
        "How many requests share a run (mean)?",
        "sum by (model) (rate(tfs_sidecar_batch_requests_sum[5m])) / sum by (model) (rate(tfs_sidecar_batch_requests_count[5m]))",
    ),
    ("What makes shared runs start?", "sum by (model, cause) (rate(tfs_sidecar_batch_flushes_total[5m]))"),
    ("Why do requests not share runs?", "sum by (model, reason) (rate(tfs_sidecar_batch_bypass_total[5m]))"),
    (
        "Do rows of a model depend on each other, although batching is on?",
        "increase(tfs_sidecar_batch_divergence_total[1h]) > 0",
    ),
    ("Does a model round differently in shared runs?", "increase(tfs_sidecar_batch_rounding_total[1h]) > 0"),
    (
        "Could the signatures of a model not be read?",
        r#"sum by (model) (increase(tfs_sidecar_signature_refreshes_total{outcome="failed"}[10m]))"#,
    ),
    ("Did the signatures of a model change?", "increase(tfs_sidecar_signature_changes_total[1h]) > 0"),
    (
        "Was a new configuration refused?",
        r#"increase(tfs_sidecar_config_reloads_total{result="refused"}[1h]) > 0"#,
    ),
    (
        "Could new certificates not be used?",
        r#"increase(tfs_sidecar_certificate_reloads_total{result="refused"}[1h]) > 0"#,
    ),
    (
        "Did somebody change the mode by hand?",
        "sum by (model, mode) (increase(tfs_sidecar_mode_overrides_total[1d])) > 0",
    ),
    (
        "Are spans lost on the way to the collector?",
        r#"sum by (result) (rate(tfs_sidecar_otlp_spans_total{result=~"dropped|failed"}[5m]))"#,
    ),
    (
        "How many events were left out of the log because a client repeats its mistake?",
        "rate(tfs_sidecar_events_left_out_total[5m])",
    ),
    ("Is the log read too slowly?", "increase(tfs_sidecar_log_lines_lost_total[5m]) > 0"),
    ("Is there a bug in the sidecar?", "sum by (task) (increase(tfs_sidecar_panics_total[1h])) > 0"),
];

/// The table of questions in Markdown.
pub(super) fn markdown() -> String {
    let mut text = "\n## Questions and queries\n\n| question | PromQL |\n| --- | --- |\n".to_owned();
    for (question, query) in QUESTIONS {
        let _ = writeln!(text, "| {question} | `{}` |", query.replace('|', "\\|"));
    }
    text
}

#[test]
fn every_counter_answers_a_question() {
    for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Counter) {
        assert!(QUESTIONS.iter().any(|(_, query)| query.contains(metric.name)), "{}", metric.name);
    }
}

/// Label names are those in `by (...)` and before `=`.
#[test]
fn queries_use_metrics_and_labels_that_exist() {
    for (question, query) in QUESTIONS {
        assert!(question.ends_with('?'), "{question}");
        for part in query.split("tfs_sidecar_").skip(1) {
            let end = part.find(|char: char| !(char.is_ascii_alphanumeric() || char == '_')).unwrap();
            let name = format!("tfs_sidecar_{}", &part[..end]);
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let metric = METRICS
                .iter()
                .find(|metric| metric.name == name || Some(metric.name) == base)
                .unwrap_or_else(|| panic!("{name} in {query}"));
            if let Some(matcher) = part[end..].strip_prefix('{') {
                let label = matcher.split('=').next().unwrap();
                assert!(metric.labels.contains(&label), "{label} of {name}");
            }
            let by = query.split("by (").skip(1).map(|rest| rest.split(')').next().unwrap());
            for label in by.flat_map(|labels| labels.split(", ")).filter(|label| *label != "le") {
                assert!(metric.labels.contains(&label), "{label} of {name}");
            }
        }
    }
}
