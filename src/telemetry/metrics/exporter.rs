//! The Prometheus exporter: the one recorder of the process, and what `/metrics` answers.
use std::borrow::Cow;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::process;
use crate::telemetry::replaced;
use crate::telemetry::table::{self, METRICS, describe};

/// A handle to the recorder, which renders `/metrics`.
///
/// The recorder keeps the raw samples of histograms until [`Exporter::run_upkeep`] sorts them into
/// buckets. Without a call every second, memory grows with the requests until the next scrape.
#[derive(Clone)]
pub(crate) struct Exporter {
    prometheus: PrometheusHandle,
    process: metrics_process::Collector,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

/// Installs the recorder. Later calls return the same one.
pub(crate) fn install() -> Exporter {
    static EXPORTER: OnceLock<Exporter> = OnceLock::new();
    let exporter = EXPORTER.get_or_init(|| {
        let mut builder = PrometheusBuilder::new();
        for metric in METRICS.iter().filter(|metric| !metric.buckets.is_empty()) {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)
                .expect("the filter leaves only metrics with buckets");
        }
        let recorder = builder.build_recorder();
        let prometheus = recorder.handle();
        describe(&recorder);
        // A program that embeds the sidecar may have installed its own recorder: then that one gets
        // the numbers, and this one stays empty.
        drop(metrics::set_global_recorder(recorder));
        let process = metrics_process::Collector::default();
        process.describe();
        let version = Cow::Borrowed(env!("CARGO_PKG_VERSION"));
        table::BUILD_INFO.gauge([version]).set(1.0);
        process::start_at_zero();
        Exporter { prometheus, process }
    });
    exporter.clone()
}

impl Exporter {
    /// All metrics, in the Prometheus text format 0.0.4.
    pub(crate) fn render(&self) -> String {
        self.process.collect();
        let mut text = self.prometheus.render();
        replaced::render(&mut text);
        text
    }

    /// Sorts the samples of histograms into buckets. Call it every second.
    pub(crate) fn run_upkeep(&self) {
        self.prometheus.run_upkeep();
    }
}
