//! Readiness for traffic: signatures read, upstream connected, not draining.
use std::sync::Arc;

use super::DrainHandle;
use crate::models::catalog::Catalog;
use crate::upstream::up::Up;

/// Checks the three conditions at each call.
#[derive(Debug, Clone)]
pub struct Readiness {
    catalog: Arc<Catalog>,
    up: Arc<Up>,
    drain: DrainHandle,
    declared: Arc<[String]>,
}

impl Readiness {
    pub fn new(catalog: Arc<Catalog>, up: Arc<Up>, drain: DrainHandle, declared: Arc<[String]>) -> Self {
        Self { catalog, up, drain, declared }
    }

    pub fn is_ready(&self) -> bool {
        !self.drain.is_draining()
            && self.up.count() > 0
            && self.declared.iter().all(|model| self.catalog.serves(model))
    }

    /// Why it is not ready, one line per reason; empty when ready.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.drain.is_draining() {
            reasons.push("draining".to_owned());
        }
        if self.up.count() == 0 {
            reasons.extend(self.up.problem());
        }
        for model in self.declared.iter().filter(|model| !self.catalog.serves(model)) {
            reasons.push(format!("signatures of model '{model}' are not read yet"));
        }
        reasons
    }
}
