//! Handles to the metrics, made once a model and signature, so that a request counts without
//! looking anything up by name.
//!
//! The exporter keeps the raw samples of a histogram until [`Exporter::run_upkeep`] sorts them into
//! buckets: the control runtime calls it every second, or memory grows with the requests until the
//! next scrape.
//!
//! Label values are words of an enum or names from the catalog. A name that only a client said is
//! [`UNKNOWN`].
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tonic::Code;

use super::labels::CODES;

pub use super::labels::{Cause, Method, OutcomeLabel, RefreshOutcome, Stage, code_name};
use super::signature_info;
pub use super::signature_info::{SignatureInput, set_signature_info};
use super::table::{self, METRICS, Metric, describe};

/// The label value for a name that came from a client and is not in the catalog.
pub const UNKNOWN: &str = "__unknown__";

// === the exporter ===

/// The one recorder of the program, as `/metrics` shows it.
#[derive(Clone)]
pub struct Exporter {
    prometheus: PrometheusHandle,
    process: metrics_process::Collector,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

/// Installs the recorder; any later call gives the same one.
pub fn install() -> Exporter {
    static EXPORTER: OnceLock<Exporter> = OnceLock::new();
    let exporter = EXPORTER.get_or_init(|| {
        let mut builder = PrometheusBuilder::new();
        for metric in METRICS.iter().filter(|metric| !metric.buckets.is_empty()) {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)
                .expect("the table gives buckets only where it filters for them");
        }
        let recorder = builder.build_recorder();
        let prometheus = recorder.handle();
        describe(&recorder);
        // An embedding program may have a recorder of its own; then ours stays empty and theirs has
        // the numbers.
        drop(metrics::set_global_recorder(recorder));
        let process = metrics_process::Collector::default();
        process.describe();
        let version = Cow::Borrowed(env!("CARGO_PKG_VERSION"));
        table::BUILD_INFO.gauge([version]).set(1.0);
        Exporter { prometheus, process }
    });
    exporter.clone()
}

impl Exporter {
    /// Everything in Prometheus' text format 0.0.4.
    pub fn render(&self) -> String {
        self.process.collect();
        let mut text = self.prometheus.render();
        signature_info::render(&mut text);
        text
    }

    /// Sorts what histograms gathered into their buckets: to be called every second.
    pub fn run_upkeep(&self) {
        self.prometheus.run_upkeep();
    }
}

// === impl ModelMetrics ===

/// The handles of one signature of one model; cheap to share, made when the catalog learns of the
/// signature.
pub struct ModelMetrics {
    model: Arc<str>,
    signature: Arc<str>,
    /// By method, outcome and code; made when first counted, because most combinations never are.
    requests: Box<[OnceLock<Counter>]>,
    request_seconds: [OnceLock<Histogram>; Method::ALL.len()],
    upstream_seconds: [OnceLock<Histogram>; Method::ALL.len()],
    repairs: ByInput,
    rejections: ByInput,
    would_repair: ByInput,
    would_reject: ByInput,
}

impl std::fmt::Debug for ModelMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ModelMetrics({} {})", self.model, self.signature)
    }
}

impl ModelMetrics {
    /// `model` and `signature` must be names that TF Serving said, or [`UNKNOWN`].
    pub fn new(model: &str, signature: &str) -> Self {
        install();
        let cells = Method::ALL.len() * OutcomeLabel::ALL.len() * CODES;
        Self {
            model: model.into(),
            signature: signature.into(),
            requests: std::iter::repeat_with(OnceLock::new).take(cells).collect(),
            request_seconds: [const { OnceLock::new() }; Method::ALL.len()],
            upstream_seconds: [const { OnceLock::new() }; Method::ALL.len()],
            repairs: ByInput::new(&table::REPAIRS),
            rejections: ByInput::new(&table::REJECTIONS),
            would_repair: ByInput::new(&table::WOULD_REPAIR),
            would_reject: ByInput::new(&table::WOULD_REJECT),
        }
    }

    /// Counts an answered request.
    pub fn request(&self, method: Method, outcome: OutcomeLabel, code: Code) {
        let cell = (method as usize * OutcomeLabel::ALL.len() + outcome as usize) * CODES + code as usize;
        let make = || {
            let fixed = [method.as_str(), outcome.as_str(), code_name(code)].map(Cow::Borrowed);
            let [method, outcome, code] = fixed;
            table::REQUESTS.counter([owned(&self.model), owned(&self.signature), method, outcome, code])
        };
        self.requests[cell].get_or_init(make).increment(1);
    }

    pub fn request_seconds(&self, method: Method, seconds: f64) {
        let make = || table::REQUEST_SECONDS.histogram([owned(&self.model), method.as_str().into()]);
        self.request_seconds[method as usize].get_or_init(make).record(seconds);
    }

    pub fn upstream_seconds(&self, method: Method, seconds: f64) {
        let make = || table::UPSTREAM_SECONDS.histogram([owned(&self.model), method.as_str().into()]);
        self.upstream_seconds[method as usize].get_or_init(make).record(seconds);
    }

    /// Counts a repair. `input` is an alias of the signature, or empty for a rule of the whole
    /// request.
    pub fn repair(&self, input: &str, rule: &'static str) {
        self.repairs.count(self, input, rule);
    }

    /// Counts a refused request under its first reason.
    pub fn rejection(&self, reason: &'static str) {
        self.rejections.count(self, "", reason);
    }

    /// As [`Self::repair`], in mode observe.
    pub fn would_repair(&self, input: &str, rule: &'static str) {
        self.would_repair.count(self, input, rule);
    }

    /// As [`Self::rejection`], in mode observe.
    pub fn would_reject(&self, reason: &'static str) {
        self.would_reject.count(self, "", reason);
    }
}

/// The handles for requests whose model is not in the catalog.
pub fn unknown() -> &'static Arc<ModelMetrics> {
    static METRICS: OnceLock<Arc<ModelMetrics>> = OnceLock::new();
    METRICS.get_or_init(|| Arc::new(ModelMetrics::new(UNKNOWN, UNKNOWN)))
}

/// More inputs than any signature has: a caller that passes on what clients send is cut off here.
const MAX_INPUTS: usize = 1024;

/// Counters by input and rule (or by reason alone): read without a lock, copied when a new pair
/// comes up.
struct ByInput {
    metric: &'static Metric,
    counters: ArcSwap<HashMap<&'static str, HashMap<Arc<str>, Counter>>>,
}

impl ByInput {
    fn new(metric: &'static Metric) -> Self {
        Self { metric, counters: ArcSwap::default() }
    }

    fn count(&self, of: &ModelMetrics, input: &str, word: &'static str) {
        if let Some(counter) = self.counters.load().get(word).and_then(|inputs| inputs.get(input)) {
            counter.increment(1);
            return;
        }
        let full = self.counters.load().get(word).is_some_and(|inputs| inputs.len() >= MAX_INPUTS);
        if full && input != UNKNOWN {
            return self.count(of, UNKNOWN, word);
        }
        let names = [owned(&of.model), owned(&of.signature)];
        let [model, signature] = names;
        let counter = match self.metric.labels.len() {
            4 => self.metric.counter([model, signature, Cow::Owned(input.to_owned()), word.into()]),
            _ => self.metric.counter([model, signature, word.into()]),
        };
        counter.increment(1);
        let input: Arc<str> = input.into();
        self.counters.rcu(|counters| {
            let mut counters = HashMap::clone(counters);
            counters.entry(word).or_default().insert(Arc::clone(&input), counter.clone());
            counters
        });
    }
}

fn owned(name: &Arc<str>) -> Cow<'static, str> {
    Cow::Owned(name.as_ref().to_owned())
}

// === metrics of the whole program ===

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

/// Records a part of a request's time.
pub fn stage_seconds(stage: Stage, seconds: f64) {
    globals().stages[stage as usize].record(seconds);
}

/// A request in flight: counted until dropped.
#[derive(Debug)]
pub struct Inflight {
    bytes: u64,
}

impl Inflight {
    #[expect(clippy::new_without_default, reason = "making one counts, which a default must not")]
    pub fn new() -> Self {
        globals().inflight_requests.increment(1.0);
        Self { bytes: 0 }
    }

    /// Counts bytes of its messages as they come.
    pub fn add_bytes(&mut self, bytes: u64) {
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

/// An open connection to TF Serving: counted until dropped.
#[derive(Debug)]
pub struct UpstreamConnection(());

impl UpstreamConnection {
    #[expect(clippy::new_without_default, reason = "making one counts, which a default must not")]
    pub fn new() -> Self {
        globals().upstream_connections.increment(1.0);
        Self(())
    }
}

impl Drop for UpstreamConnection {
    fn drop(&mut self) {
        globals().upstream_connections.decrement(1.0);
    }
}

/// TF Serving refused a request before running it.
pub fn upstream_refusal(cause: Cause) {
    install();
    table::UPSTREAM_REFUSALS.counter([cause.as_str().into()]).increment(1);
}

/// A request is sent again.
pub fn retry(cause: Cause) {
    install();
    table::RETRIES.counter([cause.as_str().into()]).increment(1);
}

/// The limiter's state: the limit and the calls in flight, and the requests that wait.
pub fn limiter(limit: usize, inflight: usize, queued: usize) {
    install();
    table::UPSTREAM_LIMIT.gauge([]).set(limit as f64);
    table::UPSTREAM_INFLIGHT.gauge([]).set(inflight as f64);
    table::QUEUED_REQUESTS.gauge([]).set(queued as f64);
}

pub fn upstream_up(up: bool) {
    globals().upstream_up.set(if up { 1.0 } else { 0.0 });
}

/// Counts a reading of a model's signatures; `model` is a name that TF Serving knows or the
/// configuration names.
pub fn signature_refresh(model: &str, ok: bool) {
    install();
    let outcome = if ok { RefreshOutcome::Ok } else { RefreshOutcome::Failed };
    table::SIGNATURE_REFRESHES.counter([Cow::Owned(model.to_owned()), outcome.as_str().into()]).increment(1);
}

/// Counts a reading that found other signatures than before, under the same kind of name.
pub fn signature_change(model: &str) {
    install();
    table::SIGNATURE_CHANGES.counter([Cow::Owned(model.to_owned())]).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses every handle once, under names of its own, because the recorder is the program's.
    fn touch(model: &str) {
        let metrics = ModelMetrics::new(model, "s");
        metrics.request(Method::Predict, OutcomeLabel::Repaired, Code::Ok);
        metrics.request_seconds(Method::Predict, 0.002);
        metrics.upstream_seconds(Method::Predict, 0.001);
        metrics.repair("x", "add_batch_dim");
        metrics.rejection("RANK_TOO_LOW");
        metrics.would_repair("", "only_signature");
        metrics.would_reject("TOO_LARGE");
        stage_seconds(Stage::Scan, 0.000_002);
        drop(Inflight::new());
        drop(UpstreamConnection::new());
        upstream_up(true);
        limiter(1, 1, 0);
        upstream_refusal(Cause::Threads);
        retry(Cause::Connection);
        signature_refresh(model, true);
        signature_change(model);
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
            r#"tfs_sidecar_requests_total{model="scrape",signature="s",method="Predict",outcome="repaired",code="OK"} 1"#,
            r#"tfs_sidecar_repairs_total{model="scrape",signature="s",input="x",rule="add_batch_dim"} 1"#,
            r#"tfs_sidecar_would_reject_total{model="scrape",signature="s",reason="TOO_LARGE"} 1"#,
            r#"tfs_sidecar_request_duration_seconds_bucket{model="scrape",method="Predict",le="0.0025"} 1"#,
            r#"tfs_sidecar_request_duration_seconds_bucket{model="scrape",method="Predict",le="0.001"} 0"#,
            r#"tfs_sidecar_signature_info{model="scrape",version="1",signature="serving_default",input="x\"\n",dtype="float",shape="[-1,2]"} 1"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        set_signature_info("scrape", Vec::new());
        assert!(!install().render().contains(r#"signature_info{model="scrape""#));
    }

    #[test]
    fn ten_thousand_invented_names_add_no_series() {
        let model = ModelMetrics::new("bounded", "s");
        let series = |text: &str| {
            text.lines().filter(|line| line.contains("invented") || line.contains(UNKNOWN)).count()
        };
        for number in 0..10_000 {
            unknown().request(Method::Predict, OutcomeLabel::Rejected, Code::NotFound);
            unknown().rejection("MODEL_UNKNOWN");
            // No caller should pass a name that it did not find in the signature; one that does is
            // bounded all the same.
            model.repair(&format!("invented_{number}"), "rename_single");
        }
        let text = install().render();
        assert!(series(&text) <= MAX_INPUTS + 8, "{}", series(&text));
        let request = r#"{model="__unknown__",signature="__unknown__",method="Predict",outcome="rejected",code="NOT_FOUND"} 10000"#;
        assert!(text.contains(request), "{text}");
        assert!(
            text.contains(r#"{model="bounded",signature="s",input="__unknown__",rule="rename_single"} 8976"#)
        );
    }

    #[test]
    fn every_code_has_a_cell_of_its_own() {
        for number in 0..CODES {
            assert_eq!(Code::from_i32(number as i32) as usize, number);
        }
        let metrics = ModelMetrics::new("codes", "s");
        for method in Method::ALL {
            for outcome in OutcomeLabel::ALL {
                for number in 0..CODES {
                    metrics.request(*method, *outcome, Code::from_i32(number as i32));
                }
            }
        }
        assert!(metrics.requests.iter().all(|cell| cell.get().is_some()));
    }
}
