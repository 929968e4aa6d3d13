//! Whether this sidecar should get traffic: signatures read, upstream reachable, not draining.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, watch};

use super::catalog::Catalog;
use super::pool::Up;

/// Turned once, from serving to draining.
#[derive(Debug, Clone)]
pub struct DrainHandle(Arc<DrainState>);

#[derive(Debug)]
struct DrainState {
    /// Beside the channel because every request reads it.
    draining: AtomicBool,
    began: watch::Sender<bool>,
    changed: Arc<Notify>,
}

impl DrainHandle {
    pub fn new(changed: Arc<Notify>) -> Self {
        Self(Arc::new(DrainState {
            draining: AtomicBool::new(false),
            began: watch::Sender::new(false),
            changed,
        }))
    }

    /// New requests are refused from now on, connections are asked to go elsewhere, requests in flight finish.
    pub fn begin(&self) {
        if !self.0.draining.swap(true, Ordering::SeqCst) {
            tracing::info!("draining");
            self.0.began.send_replace(true);
            self.0.changed.notify_one();
        }
    }

    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Returns once draining has begun.
    pub async fn begun(&self) {
        let mut began = self.0.began.subscribe();
        // The sender lives in `self`, so that this waits for the value and nothing else.
        began.wait_for(|began| *began).await.ok();
    }
}

/// Reads the three conditions whenever it is asked.
#[derive(Debug, Clone)]
pub struct Readiness {
    pub(super) catalog: Arc<Catalog>,
    pub(super) up: Arc<Up>,
    pub(super) drain: DrainHandle,
    pub(super) declared: Arc<[String]>,
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

    /// What is missing, one line each; empty when ready.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.drain.is_draining() {
            reasons.push("draining".to_owned());
        }
        if self.up.count() == 0 {
            reasons.push("no connection to the upstream".to_owned());
        }
        for model in self.declared.iter().filter(|model| !self.catalog.serves(model)) {
            reasons.push(format!("signatures of model '{model}' not read yet"));
        }
        reasons
    }
}
