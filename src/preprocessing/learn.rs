//! Makes a profile of requests that are known to be good.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::callers::{lock, try_lock};
use crate::profile::describe::TensorStats;
use crate::profile::{Budget, By, MAX_TEXT_BYTES, Profile, Sample, TensorProfile};
use crate::signature::{Signature, TensorInfo};
use crate::tensor::DataType;
use crate::wire::{InputView, Rope, values};

/// Requests that a profile may be made of.
pub(crate) const MAX_REQUESTS: u64 = 10_000_000;
/// Features of all inputs together that have statistics, about 4 KiB each.
const MAX_FEATURES: usize = 16_384;
/// After this time, what was learned is dropped.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// Strings of one input of a request.
const MAX_TEXTS: usize = 64;

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) model: String,
    pub(crate) signature: String,
    pub(crate) requests: u64,
    /// Whether the most frequent strings are kept, which may be personal.
    pub(crate) strings: bool,
}

/// A profile that is being made.
#[derive(Debug)]
pub(crate) struct Learning {
    wanted: Wanted,
    requests: AtomicU64,
    rows: AtomicU64,
    missed: AtomicU64,
    inputs: Mutex<BTreeMap<String, TensorStats>>,
    /// Inputs with too many features.
    left_out: Mutex<Vec<String>>,
    done: AtomicBool,
    started: SystemTime,
}

impl Learning {
    pub(super) fn new(wanted: Wanted, now: SystemTime) -> Self {
        Self {
            wanted,
            requests: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            inputs: Mutex::default(),
            left_out: Mutex::default(),
            done: AtomicBool::new(false),
            started: now,
        }
    }

    /// Whether requests for this signature are still needed.
    pub(crate) fn needs(&self, model: &str, signature: &str) -> bool {
        !self.is_done() && self.wanted.model == model && self.wanted.signature == signature
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Relaxed)
    }

    pub(super) fn is_forgotten(&self, now: SystemTime) -> bool {
        now.duration_since(self.started).is_ok_and(|age| age > FORGOTTEN_AFTER)
    }

    /// Adds the values of a request that conforms. It is left out while another thread adds one.
    pub(crate) fn add(
        &self,
        signature: &Signature,
        message: &Rope,
        inputs: &[InputView],
        sample: &mut Sample,
    ) {
        let Some(mut stats) = try_lock(&self.inputs) else {
            self.missed.fetch_add(1, Relaxed);
            return;
        };
        let mut rows = 0;
        for input in inputs {
            let Some(info) = signature.input(&input.key) else { continue };
            if !stats.contains_key(&input.key) {
                let Some(new) = self.stats(info, input, &stats) else { continue };
                stats.insert(input.key.clone(), new);
            }
            let Some(of) = stats.get_mut(&input.key) else { continue };
            if of.dtype() == DataType::STRING {
                let lengths = values::string_lengths(message, &input.tensor, MAX_TEXTS);
                let texts = if self.wanted.strings {
                    values::strings(message, &input.tensor, MAX_TEXTS, MAX_TEXT_BYTES)
                } else {
                    Vec::new()
                };
                for (at, length) in lengths.iter().enumerate() {
                    match texts.get(at) {
                        Some(text) if text.len() == *length => of.add_text(text),
                        _ => of.add_length(*length),
                    }
                }
                rows = rows.max(lengths.len());
            } else if sample.read(message, &input.tensor, of.by(), of.features(), Budget::default()) {
                of.add(0, &sample.values);
                rows = rows.max(sample.rows);
            }
        }
        self.rows.fetch_add(rows as u64, Relaxed);
        if self.requests.fetch_add(1, Relaxed) + 1 >= self.wanted.requests {
            self.done.store(true, Relaxed);
        }
    }

    /// Statistics for an input that is seen for the first time; `None` if there are too many.
    fn stats(
        &self,
        info: &TensorInfo,
        input: &InputView,
        known: &BTreeMap<String, TensorStats>,
    ) -> Option<TensorStats> {
        let shape: Vec<u64> =
            input.tensor.shape.iter().filter_map(|size| u64::try_from(*size).ok()).collect();
        let by = By::of_shape(&shape);
        let features = by.features(shape.last().copied().unwrap_or(1));
        let used: usize = known.values().map(TensorStats::features).sum();
        if used + features > MAX_FEATURES {
            let mut left_out = lock(&self.left_out);
            if !left_out.contains(&input.key) {
                left_out.push(input.key.clone());
            }
            return None;
        }
        Some(TensorStats::new(info.dtype, by, features))
    }

    /// `{"model", "signature", "requests", "wanted", "rows", "missed", "left_out", "done",
    /// "profile": text of the file, or null before the first request}`.
    pub(super) fn to_json(&self) -> Value {
        let Wanted { model, signature, requests: wanted, .. } = &self.wanted;
        let (requests, rows) = (self.requests.load(Relaxed), self.rows.load(Relaxed));
        let inputs: BTreeMap<String, TensorProfile> =
            lock(&self.inputs).iter_mut().map(|(name, stats)| (name.clone(), stats.profile())).collect();
        let profile = Profile {
            model: Some(model.clone()),
            signature: Some(signature.clone()),
            rows,
            sources: vec![format!("{requests} requests that a sidecar has seen")],
            inputs,
            outputs: BTreeMap::new(),
        };
        let text = (!profile.inputs.is_empty()).then(|| profile.to_yaml());
        json!({
            "model": model,
            "signature": signature,
            "requests": requests,
            "wanted": wanted,
            "rows": rows,
            "missed": self.missed.load(Relaxed),
            "left_out": *lock(&self.left_out),
            "done": self.is_done(),
            "profile": text,
        })
    }
}

impl super::Preprocessing {
    /// Begins to make a profile.
    ///
    /// # Errors
    /// Another one is being made.
    pub(crate) fn learn(&self, wanted: Wanted, now: SystemTime) -> Result<(), String> {
        let new = Arc::new(Learning::new(wanted, now));
        let mut busy = None;
        self.learning.rcu(|old| {
            busy = old.as_ref().filter(|old| !old.is_done() && !old.is_forgotten(now)).map(Arc::clone);
            if busy.is_some() { old.clone() } else { Some(Arc::clone(&new)) }
        });
        if let Some(busy) = busy {
            let Wanted { model, signature, .. } = &busy.wanted;
            return Err(format!(
                "a profile of `{model}`, `{signature}` is being made (POST /profile/forget ends that)"
            ));
        }
        self.update_active();
        Ok(())
    }

    /// What was learned so far; `None` if nothing is.
    pub(crate) fn learned(&self) -> Option<Value> {
        self.learning.load().as_ref().map(|learning| learning.to_json())
    }

    /// Ends learning and drops what was learned.
    pub(crate) fn forget(&self) {
        self.learning.store(None);
        self.update_active();
    }

    /// Drops what was learned, or is being learned, since more than a day.
    pub(crate) fn forget_old(&self, now: SystemTime) {
        let is_old = |learning: &Arc<Learning>| learning.is_forgotten(now);
        if self.learning.load().as_ref().is_some_and(is_old) {
            self.learning.rcu(|learning| learning.as_ref().filter(|learning| !is_old(learning)).cloned());
            self.update_active();
        }
    }

    /// The profile that is being made, if it needs requests for this signature.
    pub(crate) fn learning(&self, model: &str, signature: &str) -> Option<Arc<Learning>> {
        self.learning.load().as_ref().filter(|learning| learning.needs(model, signature)).map(Arc::clone)
    }
}
