//! Who does what wrong how often: for the operators' page and its fix-it list, in bounded memory.
//!
//! Unlike metrics, which never forget a label value, the list makes room for the clients with the
//! most mistakes.
mod kinds;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::SystemTime;

use serde_json::{Value, json};

pub(crate) use kinds::{Mistake, Repeated};
pub(crate) use store::ClientMistakes;
use store::Store;

use super::traffic::{self, STEP, Series, Traffic};
use crate::repair::fix::Language;

/// Mistakes of requests that came while another thread held the lock.
const MAX_WAITING: usize = 256;
/// Models with a history.
const MAX_MODELS: usize = 128;

/// The mistakes of all clients. Threads share it; none of them waits.
#[derive(Debug)]
pub(crate) struct Mistakes {
    store: Mutex<Store>,
    /// Recorded by the next thread that gets the lock.
    waiting: Mutex<Vec<Waiting>>,
    /// Changes when a client is added: what counts a client's requests may be another then.
    generation: AtomicU64,
    missed: AtomicU64,
    models: Mutex<History>,
    started: SystemTime,
}

#[derive(Debug, Default)]
struct History {
    models: BTreeMap<Arc<str>, Series>,
    sampled: Option<SystemTime>,
}

/// What one request did wrong, as it is kept until it is recorded.
#[derive(Debug)]
struct Waiting {
    client: Box<str>,
    language: Language,
    mismatch: bool,
    kinds: Vec<Repeated>,
    now: SystemTime,
}

impl Mistakes {
    /// Lists at most `max` clients.
    pub(crate) fn new(max: usize, now: SystemTime) -> Arc<Self> {
        Arc::new(Self {
            store: Mutex::new(Store::new(max, now)),
            waiting: Mutex::default(),
            generation: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            models: Mutex::default(),
            started: now,
        })
    }

    /// Records what one request did wrong; `mismatch` if it did not conform. Never waits: if
    /// another thread holds the lock, it is recorded a moment later.
    pub(crate) fn record(
        &self,
        client: &str,
        language: Language,
        mismatch: bool,
        mistakes: &[Mistake<'_>],
        now: SystemTime,
    ) {
        if let Some(mut store) = try_lock(&self.store) {
            self.catch_up(&mut store);
            if store.record(client, language, mismatch, mistakes, now) {
                self.generation.fetch_add(1, Relaxed);
            }
            return;
        }
        match try_lock(&self.waiting) {
            Some(mut waiting) if waiting.len() < MAX_WAITING => {
                let kinds = mistakes.iter().map(|mistake| Repeated::new(language, mistake, now)).collect();
                waiting.push(Waiting { client: client.into(), language, mismatch, kinds, now });
            }
            Some(_) | None => drop(self.missed.fetch_add(1, Relaxed)),
        }
    }

    /// What counts the requests of a client while [`Self::generation`] is this; none if another
    /// thread holds the lock.
    pub(crate) fn traffic(&self, client: &str, now: SystemTime) -> Option<(Arc<Traffic>, u64)> {
        // The generation changes only under the lock.
        let mut store = try_lock(&self.store)?;
        let (traffic, added) = store.traffic(client, now);
        if added {
            self.generation.fetch_add(1, Relaxed);
        }
        Some((traffic, self.generation()))
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Takes a sample of every client and model. Called every [`STEP`].
    pub(crate) fn sample(&self, now: SystemTime) {
        self.lock().sample();
        let mut history = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        for (model, totals) in traffic::models() {
            if history.models.len() < MAX_MODELS || history.models.contains_key(&model) {
                history.models.entry(model).or_default().sample(totals);
            }
        }
        history.sampled = Some(now);
    }

    /// The listed clients, then all others together under `__other__`.
    pub(crate) fn clients(&self) -> Vec<ClientMistakes> {
        self.lock().copy()
    }

    /// Requests whose mistakes were not recorded, because too many came at once.
    pub(crate) fn missed(&self) -> u64 {
        self.missed.load(Relaxed)
    }

    /// `{"step_seconds", "sampled", "started", "models": {NAME: {"requests": [..], "mismatches":
    /// [..]}}, "clients": {..}}`.
    pub(crate) fn history(&self) -> Value {
        let history = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let model = |(name, totals): (Arc<str>, traffic::Totals)| match history.models.get(&name) {
            Some(series) => Some((name.to_string(), series.to_json(totals))),
            None if history.models.len() < MAX_MODELS => {
                Some((name.to_string(), Series::default().to_json(totals)))
            }
            None => None,
        };
        let models: serde_json::Map<_, _> = traffic::models().into_iter().filter_map(model).collect();
        let time = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
        let (sampled, started) = (time(history.sampled.unwrap_or(self.started)), time(self.started));
        drop(history);
        json!({
            "step_seconds": STEP.as_secs(),
            "started": started,
            "sampled": sampled,
            "models": models,
            "clients": self.lock().history(),
        })
    }

    /// For readers, who may wait.
    fn lock(&self) -> MutexGuard<'_, Store> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        self.catch_up(&mut store);
        store
    }

    /// Records what waits.
    fn catch_up(&self, store: &mut Store) {
        let waiting = try_lock(&self.waiting).filter(|waiting| !waiting.is_empty());
        let waiting = waiting.map(|mut waiting| std::mem::take(&mut *waiting));
        for Waiting { client, language, mismatch, kinds, now } in waiting.into_iter().flatten() {
            let mistakes: Vec<Mistake<'_>> = kinds.iter().map(Repeated::as_mistake).collect();
            if store.record(&client, language, mismatch, &mistakes, now) {
                self.generation.fetch_add(1, Relaxed);
            }
        }
    }
}

/// The lock, if no other thread holds it.
fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
