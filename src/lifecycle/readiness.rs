//! Readiness for traffic: signatures read, upstream connected, not draining.
use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::DrainHandle;
use crate::config::Config;
use crate::models::catalog::Catalog;
use crate::models::problems::ModelProblems;
use crate::upstream::up::Up;

/// Checks the three conditions at each call.
#[derive(Debug, Clone)]
pub(crate) struct Readiness {
    pub catalog: Arc<Catalog>,
    pub problems: Arc<ModelProblems>,
    pub up: Arc<Up>,
    pub drain: DrainHandle,
    /// Names the models whose signatures must be read.
    pub config: Arc<ArcSwap<Config>>,
}

impl Readiness {
    pub(crate) fn is_ready(&self) -> bool {
        !self.drain.is_leaving()
            && self.up.count() > 0
            && self.config.load().models.keys().all(|model| self.serves(model))
    }

    /// Whether the model can be used: its signatures are read, and no probe holds it back.
    fn serves(&self, model: &str) -> bool {
        self.catalog.serves(model) && !self.problems.is_held(model)
    }

    /// Waits for an event that readiness depends on.
    pub(super) async fn changed(&self) {
        self.up.changed.notified().await;
    }

    pub(super) fn is_upstream_answering(&self) -> bool {
        self.up.is_answering()
    }

    /// The models that are declared or served.
    pub(super) fn models(&self) -> BTreeSet<String> {
        self.catalog.snapshot().into_keys().chain(self.config.load().models.keys().cloned()).collect()
    }

    pub(super) fn is_model_ready(&self, model: &str) -> bool {
        !self.drain.is_leaving() && self.up.count() > 0 && self.serves(model)
    }

    /// Why it is not ready, one line per reason; empty when ready.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.drain.is_leaving() {
            reasons.push("draining".to_owned());
        }
        if self.up.count() == 0 {
            reasons.extend(self.up.problem());
        }
        for model in self.config.load().models.keys().filter(|model| !self.serves(model)) {
            let known = self.problems.of(model);
            if known.is_empty() {
                reasons.push(format!("the signatures of model '{model}' are not read yet"));
            }
            reasons.extend(known);
        }
        reasons
    }

    /// What else is wrong: it does not make the sidecar unready.
    pub(crate) fn problems(&self) -> Vec<String> {
        let unanswered = self.up.problem().filter(|_| self.up.count() > 0);
        let config = self.config.load();
        let ready = config.models.keys().filter(|model| self.serves(model));
        let models = ready.flat_map(|model| self.problems.of(model));
        unanswered.into_iter().chain(models).chain(self.problems.of_config()).collect()
    }
}
