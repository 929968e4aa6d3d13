//! Compares what clients send with the training data, by caller: what all threads share of it.
//!
//! The statistics are in [`profile`](crate::profile). Here are their state, its bounds, and the
//! locks around it, none of which a request waits for.
mod answers;
mod callers;
mod found;
mod learn;
#[cfg(test)]
mod tests;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use arc_swap::{ArcSwap, ArcSwapOption};
use serde_json::{Value, json};

pub(crate) use callers::{Input, Standing, Watched};
pub(crate) use learn::{Learning, MAX_REQUESTS, Wanted};

use crate::config::Config;
use crate::repair::policy::ReadProfile;
use crate::telemetry::metrics::{FeatureDrift, set_drift};

/// Bytes of all windows together. A caller whose windows do not fit is not watched.
const MAX_BYTES: u64 = 64 << 20;

/// The state of all signatures with a profile.
#[derive(Debug)]
pub(crate) struct Preprocessing {
    /// Whether any model has a profile that requests are compared with, or one is being made.
    active: AtomicBool,
    /// Whether any model has a profile.
    has_profiles: AtomicBool,
    learning: ArcSwapOption<Learning>,
    /// By model and signature. Read without a lock; only the control thread removes.
    all: ArcSwap<BTreeMap<String, BTreeMap<String, Arc<Watched>>>>,
    max_clients: usize,
    bytes: Arc<AtomicU64>,
}

impl Preprocessing {
    /// As the configuration says.
    pub(crate) fn of(config: &Config) -> Arc<Self> {
        let this = Self::new(config.max_clients);
        this.configure(config);
        this
    }

    /// Watches at most `max_clients` callers of each signature.
    fn new(max_clients: usize) -> Arc<Self> {
        Arc::new(Self {
            active: AtomicBool::new(false),
            has_profiles: AtomicBool::new(false),
            learning: ArcSwapOption::empty(),
            all: ArcSwap::default(),
            max_clients,
            bytes: Arc::default(),
        })
    }

    /// Whether there is anything to compare.
    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    /// Follows a change of the configuration: what was seen of a profile that is no longer there is
    /// dropped.
    pub(crate) fn configure(&self, config: &Config) {
        let policies = |model: &str| {
            let model = config.models.get(model);
            model.into_iter().flat_map(|model| [&model.defaults].into_iter().chain(model.signatures.values()))
        };
        let read = |model: &str| policies(model).filter_map(|policy| policy.profile.as_ref()?.read.as_ref());
        self.has_profiles.store(config.models.keys().any(|model| read(model).next().is_some()), Relaxed);
        self.update_active();
        self.all.rcu(|all| {
            let mut all = BTreeMap::clone(all);
            for (model, signatures) in &mut all {
                signatures.retain(|_, watched| read(model).any(|read| watched.is_of(read)));
            }
            all.retain(|model, signatures| {
                if signatures.is_empty() {
                    set_drift(model, Vec::new());
                }
                !signatures.is_empty()
            });
            all
        });
    }

    fn update_active(&self) {
        let active = self.has_profiles.load(Relaxed) || self.learning.load().is_some();
        self.active.store(active, Relaxed);
    }

    /// What was seen of a signature of the catalog since its profile is this one.
    pub(crate) fn watched(&self, model: &str, signature: &str, read: &ReadProfile) -> Arc<Watched> {
        let known = |all: &BTreeMap<String, BTreeMap<String, Arc<Watched>>>| {
            all.get(model)?.get(signature).filter(|watched| watched.is_of(read)).map(Arc::clone)
        };
        if let Some(watched) = known(&self.all.load()) {
            return watched;
        }
        let new = Arc::new(Watched::new(model, signature, read, self.max_clients, &self.bytes));
        self.all.rcu(|all| {
            let mut all = BTreeMap::clone(all);
            // Another thread may have added it meanwhile.
            if known(&all).is_none() {
                all.entry(model.to_owned()).or_default().insert(signature.to_owned(), Arc::clone(&new));
            }
            all
        });
        known(&self.all.load()).unwrap_or(new)
    }

    /// What docs/api.md says of `/api/findings`.
    pub(crate) fn to_json(&self) -> Value {
        let all = self.all.load();
        let shown: Vec<Value> =
            all.values().flat_map(BTreeMap::values).map(|watched| watched.to_json()).collect();
        json!({"signatures": shown})
    }

    /// Sets the gauges of drift.
    pub(crate) fn measure(&self) {
        for (model, signatures) in &**self.all.load() {
            let features = signatures.values().flat_map(|watched| {
                let of = |drift: callers::Drifting| FeatureDrift {
                    signature: watched.signature.to_string(),
                    input: drift.input.to_string(),
                    feature: drift.feature,
                    index: drift.index,
                };
                watched.drift().into_iter().map(of)
            });
            set_drift(model, features.collect());
        }
    }
}
