//! What the admin listener shows of the running sidecar.
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{Shared, fixes};
use crate::batch::Bypass;
use crate::census::file::Traffic;
use crate::config;
use crate::lifecycle::DrainedBy;
use crate::listener::admin::{Drained, Readiness, Shown, View};
use crate::models::catalog::Entry;
use crate::preprocessing::Wanted;
use crate::repair::Mode;
use crate::runs::Runs;
use crate::signature::TensorInfo;
use crate::telemetry::log;
use crate::telemetry::metrics::{self, BatchMetrics};
use crate::telemetry::traffic;
use crate::wire::VersionChoice;

/// The name of the pod, or of the host. Kubernetes sets `HOSTNAME` to the name of the pod, unless
/// it uses the network of its host.
#[expect(clippy::disallowed_methods, reason = "it is no setting of the sidecar")]
static POD: LazyLock<Option<String>> = LazyLock::new(|| {
    let name = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty());
    name("POD_NAME").or_else(|| name("HOSTNAME"))
});

/// The admin listener's view of the sidecar; a cheap handle.
#[derive(Debug, Clone)]
pub(super) struct ServerView(pub(super) Arc<Shared>);

impl View for ServerView {
    fn ready(&self) -> Readiness {
        Readiness::new(self.0.readiness.reasons(), self.0.readiness.problems())
    }

    fn stuck(&self) -> Pin<Box<dyn Future<Output = Vec<String>> + Send>> {
        let pings = self.0.pings.clone();
        Box::pin(async move { pings.stuck().await })
    }

    fn status(&self) -> Value {
        let Shared { up, problems, target, reload, modes, .. } = &*self.0;
        let limiter = self.0.limiter.as_ref().map(|limiter| limiter.occupancy());
        let admission = &self.0.admission;
        let config = self.0.config.load();
        let rest = config
            .rest_listen
            .as_ref()
            .map(|address| json!({"address": address.to_string(), "tls": config.listen_tls.is_some()}));
        json!({
            "pod": *POD,
            "sidecar_version": env!("CARGO_PKG_VERSION"),
            "now": humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            "readiness": self.ready(),
            "load": {
                "connections": self.connections(),
                "inflight_requests": admission.requests(),
                "inflight_bytes": admission.bytes(),
                "upstream_limit": limiter.as_ref().map(|limiter| limiter.limit),
                "upstream_inflight": limiter.as_ref().map(|limiter| limiter.inflight),
                "queued_requests": limiter.as_ref().map(|limiter| limiter.queued),
            },
            "upstream": {"address": target.address, "up": up.is_answering(), "problem": up.problem()},
            "rest": rest,
            "advice": self.0.limiter.as_ref().and_then(|limiter| limiter.advice()),
            "model_problems": problems.to_json(),
            "config_problems": problems.of_config(),
            "config": reload.to_json(),
            "mode_overrides": modes.to_json(),
        })
    }

    fn unknown_models(&self) -> Value {
        self.0.unknown_models.to_json()
    }

    fn models(&self) -> Value {
        let mut models = self.0.catalog.snapshot();
        for declared in self.0.config.load().models.keys() {
            models.entry(declared.clone()).or_default();
        }
        let mut shown: Vec<Value> = models.iter().map(|(name, entry)| self.model(name, entry)).collect();
        for (name, totals) in traffic::models() {
            if let Some(model) = shown.iter_mut().find(|model| model["name"] == *name) {
                model["traffic"] = totals.to_json();
            }
        }
        shown.into()
    }

    fn show(&self, what: Shown) -> Value {
        let Shared { mistakes, catalog, changes, preprocessing, .. } = &*self.0;
        match what {
            Shown::Clients => fixes::clients(mistakes),
            Shown::Fixes => fixes::fixes(mistakes, catalog),
            Shown::History => mistakes.history(),
            Shown::Changes => changes.to_json(),
            Shown::Traffic => {
                let models = catalog.snapshot();
                let outputs = |model: &str, version, signature: &str| {
                    let signatures = &models.get(model)?.versions.get(&version)?.signatures;
                    let outputs = signatures.get(signature)?.outputs.iter();
                    Some(outputs.map(|output| output.alias.clone()).collect())
                };
                Traffic::of(&self.0.census, SystemTime::now(), outputs).to_json()
            }
            Shown::Findings => preprocessing.to_json(),
        }
    }

    fn measure(&self) {
        let limiter = self.0.limiter.as_ref().map(|limiter| limiter.occupancy()).unwrap_or_default();
        let admission = &self.0.admission;
        let connections = self.connections();
        metrics::set_inflight(admission.requests(), admission.bytes(), admission.streams(), connections);
        for (model, entry) in self.0.catalog.snapshot() {
            let all = entry.versions.values().flat_map(|version| version.all_runs());
            let runs: Vec<_> = all.filter_map(|(_, runs)| runs.as_ref().ok()).collect();
            if !runs.is_empty() {
                BatchMetrics::set_queue_rows(&model, runs.iter().map(|runs| runs.queue_rows()).sum());
            }
            for (runs, (run, row)) in runs.iter().filter_map(|runs| Some((runs, runs.cost()?))) {
                runs.metrics.set_costs(run, row);
            }
        }
        metrics::set_log_losses(log::lost_lines(), self.0.events.left_out());
        metrics::set_limiter(limiter.limit, limiter.withheld, limiter.inflight, limiter.queued);
        metrics::set_traffic_forms(self.0.census.len());
        metrics::set_ready(self.0.readiness.is_ready());
        self.0.preprocessing.measure();
    }

    fn recent(&self) -> Value {
        self.0.recent.to_json()
    }

    fn config(&self) -> String {
        config::effective(&self.0.loaded.load())
    }

    fn drain(&self, by: DrainedBy) -> Pin<Box<dyn Future<Output = Drained> + Send>> {
        self.0.drain.begin(self.0.config.load().drain_delay, by);
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            tokio::select! {
                in_flight = shared.drained() => Drained { in_flight, undrained: false },
                () = shared.drain.taken_back() => {
                    Drained { in_flight: shared.admission.requests(), undrained: true }
                }
            }
        })
    }

    fn modes(&self) -> Value {
        self.0.modes.to_json()
    }

    fn set_mode(&self, model: Option<&str>, mode: Option<Mode>, time: Duration) -> Result<(), String> {
        let shared = &self.0;
        if let Some(model) = model
            && !shared.config.load().is_declared(model)
            && shared.catalog.entry(model).is_none()
            && mode.is_some()
        {
            return Err(format!(
                "model '{model}' is neither configured nor known (without `model`, the mode of all is changed)"
            ));
        }
        match mode {
            Some(mode) => shared.modes.set(model, mode, time)?,
            None => shared.modes.take_back(model),
        }
        shared.activate();
        Ok(())
    }

    fn learn(&self, wanted: Wanted) -> Result<(), String> {
        let version = self.0.catalog.find(&wanted.model, &VersionChoice::Latest);
        let version = version.ok_or_else(|| format!("TF Serving does not serve model '{}'", wanted.model))?;
        if version.signatures.get(&wanted.signature).is_none() {
            return Err(format!("model '{}' has no signature '{}'", wanted.model, wanted.signature));
        }
        self.0.preprocessing.learn(wanted, SystemTime::now())
    }

    fn learned(&self) -> Option<Value> {
        self.0.preprocessing.learned()
    }

    fn forget(&self) {
        self.0.preprocessing.forget();
    }

    fn undrain(&self) -> Result<(), String> {
        self.0.drain.take_back().map_err(|stopping| stopping.to_string())
    }
}

impl ServerView {
    fn connections(&self) -> usize {
        self.0.live.iter().map(|live| live.count()).sum()
    }

    fn model(&self, name: &str, entry: &Entry) -> Value {
        let config = self.0.config.load();
        let mut numbers: Vec<i64> =
            entry.available.iter().flatten().chain(entry.versions.keys()).copied().collect();
        numbers.sort_unstable_by(|left, right| right.cmp(left));
        numbers.dedup();
        let versions: Vec<Value> = numbers.into_iter().map(|version| version_of(entry, version)).collect();
        let mut model = json!({
            "name": name,
            "declared": config.is_declared(name),
            "mode": config.policy(name).defaults.mode.as_str(),
            "versions": versions,
        });
        if versions.is_empty() {
            let known = self.0.problems.of(name);
            let problem =
                if known.is_empty() { "its signatures have not been read yet" } else { &known.join("; ") };
            model["problem"] = json!(problem);
        }
        model
    }
}

/// Whether requests share runs, and what was learned about them.
fn batching(runs: &Result<Arc<Runs>, Bypass>) -> Value {
    let runs = match runs {
        Ok(runs) => runs,
        Err(why) => return json!({"state": "not possible", "why": why.text()}),
    };
    let state = match (runs.trust.off(), runs.trust.probation()) {
        (Some(_), _) => "off",
        (None, 0) => "on",
        (None, _) => "on probation",
    };
    let cost =
        runs.cost().map(|(run, row)| json!({"run_us": run.round(), "row_us": (row * 10.0).round() / 10.0}));
    let (in_flight, rows) = runs.runs_and_rows();
    json!({
        "runs": in_flight,
        "rows": rows,
        "state": state,
        "why": runs.trust.off(),
        "probation_left": runs.trust.probation(),
        "max_rows": runs.settings.rows_per_run(),
        "queue_rows": runs.queue_rows(),
        "cost": cost,
    })
}

fn version_of(entry: &Entry, version: i64) -> Value {
    let labels: Vec<&String> =
        entry.labels.iter().filter(|(_, of)| **of == version).map(|(label, _)| label).collect();
    let signatures: Vec<Value> = entry.versions.get(&version).map_or_else(Vec::new, |served| {
        let infos = |infos: &[TensorInfo]| -> Vec<Value> {
            infos
                .iter()
                .map(|info| json!({"name": info.alias, "dtype": info.dtype.name(), "shape": info.shape.to_string()}))
                .collect()
        };
        let signature = |signature: &Arc<crate::signature::Signature>| {
            let mut shown = json!({
                "name": signature.name,
                "method_name": signature.method_name,
                "inputs": infos(&signature.inputs),
                "outputs": infos(&signature.outputs),
            });
            if let Some((_, runs)) = served.all_runs().find(|(name, _)| *name == signature.name) {
                shown["batching"] = batching(runs);
            }
            shown
        };
        served.signatures.iter().map(signature).collect()
    });
    json!({"version": version, "labels": labels, "state": "AVAILABLE", "signatures": signatures})
}
