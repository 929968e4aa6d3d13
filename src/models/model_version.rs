//! One version of a model, with everything that a request for it needs.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crate::batch::{Bypass, Settings};
use crate::repair::Repair;
use crate::repair::policy::ModelPolicy;
use crate::runs::Runs;
use crate::signature::Signatures;
use crate::telemetry::metrics::{self, ModelMetrics};

/// Signatures of a version that have metrics of their own. They take some kilobytes each, and a
/// series in every scrape.
const MAX_MEASURED: usize = 1024;

/// One version of one model, with everything that a request for it needs.
#[derive(Debug)]
pub(crate) struct ModelVersion {
    pub model: String,
    pub version: i64,
    pub signatures: Signatures,
    /// What the runs were made by. Requests are judged by the policy of their own configuration.
    policy: Arc<ModelPolicy>,
    /// By signature, for those whose requests may share runs by the configuration; why not, if the
    /// signature does not allow it.
    runs: BTreeMap<String, Result<Arc<Runs>, Bypass>>,
    /// By signature, for those that were used.
    metrics: BTreeMap<String, OnceLock<Arc<ModelMetrics>>>,
    /// The signatures that have metrics.
    measured: AtomicUsize,
    /// For requests that name a signature which the model does not have.
    unknown_signature: Arc<ModelMetrics>,
}

impl ModelVersion {
    /// `before`: an older version, whose runs this one begins with what they have learned.
    pub(crate) fn new(
        model: &str,
        version: i64,
        signatures: Signatures,
        policy: Arc<ModelPolicy>,
        before: Option<&Self>,
    ) -> Self {
        let metrics = signatures.iter().map(|it| (it.name.clone(), OnceLock::new())).collect();
        let unknown_signature = Arc::new(ModelMetrics::new(model, Some(version), metrics::UNKNOWN));
        let mut this = Self {
            model: model.to_owned(),
            version,
            signatures,
            policy,
            runs: BTreeMap::new(),
            metrics,
            measured: AtomicUsize::new(0),
            unknown_signature,
        };
        this.runs = this.new_runs(before);
        this
    }

    /// The same version after a change of its policy. Runs whose settings did not change stay as
    /// they are; others begin with what those before have learned.
    pub(super) fn with_policy(&self, policy: &Arc<ModelPolicy>) -> Self {
        let mut this = Self {
            model: self.model.clone(),
            version: self.version,
            signatures: self.signatures.clone(),
            policy: Arc::clone(policy),
            runs: BTreeMap::new(),
            metrics: self.metrics.clone(),
            measured: AtomicUsize::new(self.measured.load(Relaxed)),
            unknown_signature: Arc::clone(&self.unknown_signature),
        };
        this.runs = this.new_runs(Some(self));
        this
    }

    pub(super) fn has_policy(&self, policy: &ModelPolicy) -> bool {
        *self.policy == *policy
    }

    /// What decides how requests for a signature share runs; `None` if they do not.
    fn batching(&self, signature: &str) -> Option<(&Settings, bool)> {
        let policy = self.policy.for_signature(signature);
        let pads = Repair::find("pad_static_batch").is_some_and(|rule| policy.rules.contains(rule));
        policy.batching.enabled.then_some((&policy.batching, pads))
    }

    fn new_runs(&self, before: Option<&Self>) -> BTreeMap<String, Result<Arc<Runs>, Bypass>> {
        let mut all = BTreeMap::new();
        for signature in self.signatures.iter() {
            let Some((settings, pads)) = self.batching(&signature.name) else { continue };
            if let Some(same) = before
                && same.version == self.version
                && same.batching(&signature.name) == Some((settings, pads))
                && let Some(runs) = same.runs.get(&signature.name)
            {
                all.insert(signature.name.clone(), runs.clone());
                continue;
            }
            let before = before.and_then(|before| before.runs(&signature.name));
            let names = (self.model.as_str(), self.version, self.metrics(&signature.name));
            let runs = Runs::new(names, Arc::clone(signature), settings, pads, before.map(|runs| &**runs));
            if let Err(why) = &runs {
                let (model, signature, why) = (&self.model, &signature.name, why.text());
                tracing::warn!(
                    model,
                    signature,
                    why,
                    "batching is on, but requests for this signature cannot share a run"
                );
            }
            all.insert(signature.name.clone(), runs.map(Arc::new));
        }
        all
    }

    /// The runs that requests for a signature may share, if its owner has switched that on.
    #[inline]
    pub(crate) fn runs(&self, signature: &str) -> Option<&Arc<Runs>> {
        if self.runs.is_empty() {
            return None;
        }
        self.runs.get(signature)?.as_ref().ok()
    }

    /// All runs, with what their signatures' requests cannot share runs for.
    pub(crate) fn all_runs(&self) -> impl Iterator<Item = (&str, &Result<Arc<Runs>, Bypass>)> {
        self.runs.iter().map(|(signature, runs)| (signature.as_str(), runs))
    }

    /// The metrics of a signature. Names that the model does not have share one series, and so do
    /// the signatures beyond [`MAX_MEASURED`].
    pub(crate) fn metrics(&self, signature: &str) -> &Arc<ModelMetrics> {
        let Some(metrics) = self.metrics.get(signature) else { return &self.unknown_signature };
        match metrics.get() {
            Some(metrics) => metrics,
            None if self.measured.fetch_add(1, Relaxed) < MAX_MEASURED => metrics
                .get_or_init(|| Arc::new(ModelMetrics::new(&self.model, Some(self.version), signature))),
            None => {
                self.measured.fetch_sub(1, Relaxed);
                &self.unknown_signature
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tensorflow::SignatureDef;
    use crate::proto::tensorflow::serving::SignatureDefMap;
    use crate::repair::notation;
    use crate::repair::policy::Policy;

    fn signatures(names: &[&str]) -> Signatures {
        let signature_def = names.iter().map(|name| ((*name).to_owned(), SignatureDef::default())).collect();
        Signatures::from(SignatureDefMap { signature_def })
    }

    #[test]
    fn signatures_have_metrics_once_they_are_used_up_to_a_limit() {
        let names: Vec<String> = (0..=MAX_MEASURED).map(|number| format!("s{number}")).collect();
        let all = signatures(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let version = ModelVersion::new("measured", 1, all, Arc::default(), None);
        assert!(version.metrics.values().all(|metrics| metrics.get().is_none()));
        for name in &names[..MAX_MEASURED] {
            assert!(!Arc::ptr_eq(version.metrics(name), &version.unknown_signature), "{name}");
        }
        assert!(Arc::ptr_eq(version.metrics(&names[MAX_MEASURED]), &version.unknown_signature));
        assert!(Arc::ptr_eq(version.metrics("s0"), version.metrics("s0")));
        assert!(Arc::ptr_eq(version.metrics("no such name"), &version.unknown_signature));
    }

    #[test]
    fn runs_whose_settings_did_not_change_stay_with_all_that_they_have_learned() {
        let names = ["a", "b"];
        let signature = |name: &&str| {
            let all = notation::signature(&format!("x:float[-1,2] -> @{name} y:float[-1,2]")).unwrap();
            all.get(name).unwrap().as_ref().clone()
        };
        let policy = |max_rows: u64, mode| {
            let of = |name: &str, max_rows| {
                let batching = Settings { enabled: true, max_rows, ..Settings::default() };
                (name.to_owned(), Policy { mode, batching, ..Policy::default() })
            };
            let signatures = [of("a", 16), of("b", max_rows)].into();
            Arc::new(ModelPolicy { signatures, ..ModelPolicy::default() })
        };
        let (observe, strict) = (crate::repair::Mode::Observe, crate::repair::Mode::Strict);
        let before =
            ModelVersion::new("m", 1, names.iter().map(signature).collect(), policy(16, observe), None);
        let same = |after: &ModelVersion| {
            names.map(|name| Arc::ptr_eq(before.runs(name).unwrap(), after.runs(name).unwrap()))
        };
        assert_eq!(same(&before.with_policy(&policy(16, strict))), [true, true]);
        let changed = before.with_policy(&policy(32, strict));
        assert_eq!(same(&changed), [true, false]);
        assert_eq!(changed.runs("b").unwrap().settings.max_rows, 32);
        assert!(before.with_policy(&Arc::default()).runs("a").is_none());
        assert!(Arc::ptr_eq(before.metrics("a"), changed.metrics("a")), "it goes on counting");
    }
}
