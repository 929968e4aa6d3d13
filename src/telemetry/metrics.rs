//! Handles to the metrics, created once for each model and signature, so that counting a request
//! looks up nothing by name.
//!
//! Label values are words of an enum or names from the catalog. A name that only a client sent
//! becomes [`UNKNOWN`].
mod batching;
mod by_client;
mod exporter;
mod model;
mod process;

pub(crate) use batching::BatchMetrics;
pub(crate) use exporter::{Exporter, install};
pub(crate) use model::{ModelMetrics, UNKNOWN, unknown};
#[cfg(feature = "tls")]
pub(crate) use process::set_certificate_expiry;
pub(crate) use process::{
    ALL_MODELS, SpanMetrics, UpstreamConnection, certificate_reload, config_loaded, config_reload,
    connection_ended, connection_refused, mode_overridden, panicked, retry, set_config_problems,
    set_forecast, set_inflight, set_limiter, set_log_losses, set_ready, set_traffic_forms, signature_change,
    signature_refresh, stage_seconds, upstream_refusal, upstream_up,
};

pub(crate) use super::labels::{
    Cause, ConnectionLimit, Door, FlushCause, Method, ModelProblemKind, OutcomeLabel, PanickedTask,
    ReloadResult, SpanResult, Stage, code_name,
};
pub(crate) use super::replaced::{
    FeatureDrift, SignatureInput, set_drift, set_mode_override, set_model_problems, set_signature_info,
};

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::telemetry::clients::Clients;
    use crate::telemetry::table::METRICS;

    /// Uses every handle once. Each test has its own model names, because all share the recorder.
    fn touch(model: &str) {
        let metrics = ModelMetrics::new(model, Some(3), "s");
        metrics.request(Method::Predict, OutcomeLabel::Repaired, Code::Ok);
        metrics.request_seconds(Method::Predict, 0.002);
        metrics.upstream_seconds(Method::Predict, 0.001);
        let client = Clients::new(1).named("c");
        metrics.repair("x", "add_batch_dim", &client);
        metrics.rejection("x", "RANK_TOO_LOW", &client);
        metrics.warning("BATCH_MISMATCH", &client);
        metrics.would_repair("", "only_signature", &client);
        metrics.would_reject("", "TOO_LARGE", &client);
        metrics.finding("x", "SHIFTED", &client);
        let feature = || "3".to_owned();
        set_drift(
            model,
            vec![FeatureDrift {
                signature: "s".to_owned(),
                input: "x".to_owned(),
                feature: feature(),
                index: 0.25,
            }],
        );
        stage_seconds(Stage::Scan, 0.000_002);
        set_inflight(1, 2, 3, 4);
        set_log_losses(0, 0);
        connection_refused(ConnectionLimit::All);
        drop(UpstreamConnection::new());
        upstream_up(true);
        set_ready(true);
        set_limiter(1, 0, 1, 0);
        let batch = BatchMetrics::new(model, "s");
        batch.run(FlushCause::Idle, 2, 3);
        batch.answered(0.001);
        batch.bypass("encoding");
        batch.diverged();
        batch.rounded();
        batch.switched_off();
        batch.set_costs(100.0, 1.0);
        BatchMetrics::set_queue_rows(model, 4);
        upstream_refusal(Cause::Threads);
        connection_ended("http1");
        retry(Cause::Connection);
        panicked(PanickedTask::Request);
        SpanMetrics::new().count(SpanResult::Exported, 1);
        #[cfg(feature = "tls")]
        set_certificate_expiry("listen_tls.cert", 1.0);
        signature_refresh(model, true);
        signature_change(model, true);
        set_config_problems(model, 2);
        set_traffic_forms(3);
        set_forecast(model, 1);
        config_reload(ReloadResult::Applied);
        config_loaded(std::time::SystemTime::now());
        certificate_reload(ReloadResult::Refused);
        mode_overridden(model, "strict");
        set_model_problems(model, vec![("3".to_owned(), ModelProblemKind::LoadFailed)]);
    }

    #[test]
    fn a_scrape_contains_every_metric() {
        touch("scrape");
        let input = SignatureInput {
            version: "1".to_owned(),
            signature: "serving_default".to_owned(),
            input: "x\"\n".to_owned(),
            dtype: "float".to_owned(),
            shape: "[-1,2]".to_owned(),
        };
        set_signature_info("scrape", vec![input]);
        let text = install().render();
        for metric in METRICS {
            assert!(
                text.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind.as_str())),
                "{}",
                metric.name
            );
            assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
        }
        assert!(text.contains("process_resident_memory_bytes"));
        for line in [
            r#"tfs_sidecar_requests_total{model="scrape",version="3",signature="s",method="Predict",outcome="repaired",code="OK",door="grpc"} 1"#,
            r#"tfs_sidecar_repairs_total{model="scrape",signature="s",input="x",rule="add_batch_dim",client="c",door="grpc"} 1"#,
            r#"tfs_sidecar_would_reject_total{model="scrape",signature="s",input="",reason="TOO_LARGE",client="c",door="grpc"} 1"#,
            r#"tfs_sidecar_request_duration_seconds_bucket{model="scrape",method="Predict",door="grpc",le="0.0025"} 1"#,
            r#"tfs_sidecar_request_duration_seconds_bucket{model="scrape",method="Predict",door="grpc",le="0.001"} 0"#,
            r#"tfs_sidecar_config_problems{model="scrape"} 2"#,
            r#"tfs_sidecar_preprocessing_findings_total{model="scrape",signature="s",input="x",kind="SHIFTED",client="c"} 1"#,
            r#"tfs_sidecar_feature_drift{model="scrape",signature="s",input="x",feature="3"} 0.25"#,
            r#"tfs_sidecar_model_problem{model="scrape",version="3",kind="load_failed"} 1"#,
            r#"tfs_sidecar_signature_info{model="scrape",version="1",signature="serving_default",input="x\"\n",dtype="float",shape="[-1,2]"} 1"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        set_signature_info("scrape", Vec::new());
        set_model_problems("scrape", Vec::new());
        set_mode_override("scrape", None);
        let text = install().render();
        assert!(!text.contains(r#"signature_info{model="scrape""#), "{text}");
        assert!(!text.contains(r#"model_problem{model="scrape""#), "{text}");
        assert!(!text.contains(r#"mode_override{model="scrape""#), "{text}");
    }

    /// The first count of a series that appears with it is lost to `rate`.
    #[test]
    fn what_a_rate_is_asked_of_starts_at_zero() {
        let metrics = ModelMetrics::new("from zero", Some(2), "s");
        let zero = |labels: &str| {
            let line = format!("tfs_sidecar_{labels} 0\n");
            let text = install().render();
            assert!(text.contains(&line), "{line}\n{text}");
        };
        for (outcome, code) in [
            ("conforming", "OK"),
            ("repaired", "OK"),
            ("rejected", "INVALID_ARGUMENT"),
            ("would_repair", "OK"),
            ("would_repair", "INVALID_ARGUMENT"),
            ("would_reject", "OK"),
            ("would_reject", "INVALID_ARGUMENT"),
            ("overloaded", "RESOURCE_EXHAUSTED"),
        ] {
            zero(&format!(
                r#"requests_total{{model="from zero",version="2",signature="s",method="Predict",outcome="{outcome}",code="{code}",door="grpc"}}"#
            ));
        }
        zero(r#"panics_total{task="run"}"#);
        zero(r#"connections_refused_total{limit="busy"}"#);
        metrics.request(Method::Predict, OutcomeLabel::Rejected, Code::InvalidArgument);
        let text = install().render();
        assert!(text.contains(
            r#"requests_total{model="from zero",version="2",signature="s",method="Predict",outcome="rejected",code="INVALID_ARGUMENT",door="grpc"} 1"#
        ));
    }

    #[test]
    fn ten_thousand_invented_names_add_no_series() {
        let model = ModelMetrics::new("bounded", Some(1), "s");
        let client = Clients::new(1).unnamed();
        let series = |text: &str| {
            text.lines().filter(|line| line.contains("invented") || line.contains(UNKNOWN)).count()
        };
        for number in 0..10_000 {
            unknown().request(Method::Predict, OutcomeLabel::Rejected, Code::NotFound);
            unknown().rejection("", "MODEL_UNKNOWN", &client);
            // Callers should pass only names from the signature; the bound holds even if they do
            // not.
            model.repair(&format!("invented_{number}"), "rename_single", &client);
        }
        let text = install().render();
        assert!(series(&text) <= 1024 + 8, "{}", series(&text));
        let request = r#"{model="__unknown__",version="__unknown__",signature="__unknown__",method="Predict",outcome="rejected",code="NOT_FOUND",door="grpc"} 10000"#;
        assert!(text.contains(request), "{text}");
        assert!(text.contains(
            r#"{model="bounded",signature="s",input="__unknown__",rule="rename_single",client="",door="grpc"} 8976"#
        ));
    }

    #[test]
    fn a_hundred_thousand_pairs_of_client_and_input_stay_within_the_cap() {
        let clients = Clients::new(128);
        let model = ModelMetrics::new("forged", Some(1), "s");
        for number in 0..100_000 {
            let client = clients.named(&format!("forged_{}", number % 200));
            model.rejection(&format!("x{}", number / 200), "RANK_TOO_LOW", &client);
        }
        let text = install().render();
        let lines = || text.lines().filter(|line| line.contains(r#"rejections_total{model="forged""#));
        assert_eq!(lines().filter(|line| line.contains(r#"client="forged_"#)).count(), 2048);
        assert_eq!(lines().count(), 2048 + 500, "one for all other clients of each input");
        let count = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        assert_eq!(lines().map(count).sum::<u64>(), 100_000);
    }
}
