//! How many requests a client or a model had, and how many of them did not conform.
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::clients::OTHER;

/// How often a sample is taken.
pub(crate) const STEP: Duration = Duration::from_secs(30);
/// Samples that are kept: an hour.
const SAMPLES: usize = 120;
/// Models that are counted by themselves, in the life of the process.
const MAX_MODELS: usize = 1024;

/// Counts requests. Threads share it.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    requests: AtomicU64,
    mismatches: AtomicU64,
    /// Who takes over the counts once this client is no longer counted by itself.
    heir: OnceLock<Arc<Traffic>>,
}

/// Counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    pub(crate) mismatches: u64,
}

/// The requests and mismatches of the last hour, a sample every [`STEP`].
#[derive(Debug, Default)]
pub(super) struct Series {
    samples: VecDeque<(u32, u32)>,
    /// The counts when the last sample was taken.
    sampled: Totals,
}

impl Traffic {
    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn mismatch(&self) {
        self.mismatches.fetch_add(1, Relaxed);
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals { requests: self.requests.load(Relaxed), mismatches: self.mismatches.load(Relaxed) }
    }

    /// Moves the counts to another, and also those that a thread still adds here.
    pub(super) fn retire(&self, heir: &Arc<Self>) {
        self.heir.get_or_init(|| Arc::clone(heir));
        self.pass_on();
    }

    fn pass_on(&self) {
        if let Some(heir) = self.heir.get() {
            heir.requests.fetch_add(self.requests.swap(0, Relaxed), Relaxed);
            heir.mismatches.fetch_add(self.mismatches.swap(0, Relaxed), Relaxed);
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.pass_on();
    }
}

impl Totals {
    /// `{"requests", "mismatches", "share"}`.
    pub(crate) fn to_json(self) -> Value {
        json!({"requests": self.requests, "mismatches": self.mismatches, "share": self.share(self.mismatches)})
    }

    /// The share that `part` is of the requests; none without requests.
    pub(crate) fn share(self, part: u64) -> Option<f64> {
        (self.requests > 0).then(|| {
            let share = part as f64 / self.requests as f64;
            (share.min(1.0) * 10_000.0).round() / 10_000.0
        })
    }
}

impl Series {
    /// A series that begins with these counts.
    pub(super) fn starting(sampled: Totals) -> Self {
        Self { samples: VecDeque::new(), sampled }
    }

    /// Adds a sample of what was counted since the last one.
    pub(super) fn sample(&mut self, now: Totals) {
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        let sample = self.since(now);
        self.samples.push_back(sample);
        self.sampled = now;
    }

    /// `{"requests": [..], "mismatches": [..]}`, oldest first. The last number is of the time since
    /// the last sample.
    pub(super) fn to_json(&self, now: Totals) -> Value {
        let all = || self.samples.iter().copied().chain([self.since(now)]);
        let requests: Vec<u32> = all().map(|sample| sample.0).collect();
        let mismatches: Vec<u32> = all().map(|sample| sample.1).collect();
        json!({"requests": requests, "mismatches": mismatches})
    }

    fn since(&self, now: Totals) -> (u32, u32) {
        let difference =
            |now: u64, before: u64| u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
        (difference(now.requests, self.sampled.requests), difference(now.mismatches, self.sampled.mismatches))
    }
}

/// The models, by name.
#[derive(Debug)]
struct Models(Mutex<BTreeMap<Arc<str>, Arc<Traffic>>>);

impl Models {
    fn get(&self, model: &str) -> Arc<Traffic> {
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = models.len() >= MAX_MODELS && !models.contains_key(model);
        let name = if full { OTHER } else { model };
        Arc::clone(models.entry(name.into()).or_default())
    }
}

/// As the metrics, it outlives the versions of a model.
static MODELS: Models = Models(Mutex::new(BTreeMap::new()));

/// What counts the requests of a model. The name is from TF Serving, or stands for all unknown
/// ones.
pub(crate) fn of_model(model: &str) -> Arc<Traffic> {
    MODELS.get(model)
}

/// The counts of every model that has any.
pub(crate) fn models() -> Vec<(Arc<str>, Totals)> {
    let models = MODELS.0.lock().unwrap_or_else(PoisonError::into_inner);
    let totals = models.iter().map(|(name, traffic)| (Arc::clone(name), traffic.totals()));
    totals.filter(|(_, totals)| totals.requests > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(requests: u64, mismatches: u64) -> Totals {
        Totals { requests, mismatches }
    }

    #[test]
    fn a_series_holds_the_last_hour_and_what_came_since() {
        let mut series = Series::default();
        for at in 1..=SAMPLES as u64 + 5 {
            series.sample(totals(at * 10, at));
        }
        let last = SAMPLES as u64 + 5;
        let shown = series.to_json(totals(last * 10 + 7, last + 2));
        let requests = shown["requests"].as_array().unwrap();
        assert_eq!((requests.len(), &requests[0], &requests[SAMPLES]), (SAMPLES + 1, &json!(10), &json!(7)));
        assert_eq!(shown["mismatches"][SAMPLES], 2);
    }

    #[test]
    fn the_heir_gets_what_is_counted_late() {
        let (heir, gone) = (Arc::new(Traffic::default()), Traffic::default());
        gone.request();
        gone.mismatch();
        gone.retire(&heir);
        assert_eq!((heir.totals(), gone.totals()), (totals(1, 1), totals(0, 0)));
        gone.request();
        drop(gone);
        assert_eq!(heir.totals(), totals(2, 1));
    }

    #[test]
    fn shares_are_of_all_requests() {
        assert_eq!(totals(8, 2).share(2), Some(0.25));
        assert_eq!(totals(3, 1).to_json(), json!({"requests": 3, "mismatches": 1, "share": 0.3333}));
        assert_eq!(totals(0, 0).share(0), None);
    }

    #[test]
    fn models_beyond_the_bound_share_counts() {
        let models = Models(Mutex::default());
        let first = models.get("first");
        for number in 0..MAX_MODELS {
            models.get(&number.to_string());
        }
        assert!(Arc::ptr_eq(&first, &models.get("first")));
        assert!(Arc::ptr_eq(&models.get("late a"), &models.get("late b")));
        assert!(models.0.lock().unwrap().len() <= MAX_MODELS + 1);
    }
}
