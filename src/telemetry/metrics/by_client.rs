//! Counters by client, input, and rule, reason or finding.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use metrics::{Counter, SharedString};

use super::model::UNKNOWN;
use crate::telemetry::clients::{Client, Slot};
use crate::telemetry::labels::Door;
use crate::telemetry::table::Metric;

/// Inputs with counters of their own, more than any signature has. It bounds the series even if a
/// caller passes names that clients sent.
const MAX_INPUTS: usize = 1024;

/// Counters of one metric of one signature. Reads take no lock; a new counter copies the map of
/// its input.
pub(super) struct ByClient {
    metric: &'static Metric,
    door: Door,
    counters: ArcSwap<HashMap<&'static str, Inputs>>,
}

type Inputs = HashMap<Arc<str>, Arc<BTreeMap<Slot, Counter>>>;

impl ByClient {
    pub(super) fn new(metric: &'static Metric, door: Door) -> Self {
        Self { metric, door, counters: ArcSwap::default() }
    }

    /// `of`: the model and the signature. `word`: the rule or the reason.
    pub(super) fn count(&self, of: [&Arc<str>; 2], input: &str, word: &'static str, client: &Client) {
        if !self.increment(input, word, client) {
            self.add(of, input, word, client);
        }
    }

    /// Whether there is such a counter.
    fn increment(&self, input: &str, word: &'static str, client: &Client) -> bool {
        let counters = self.counters.load();
        let counter = counters.get(word).and_then(|inputs| inputs.get(input)?.get(&client.slot()));
        counter.inspect(|counter| counter.increment(1)).is_some()
    }

    /// Counts with a new counter, or with the one of all that are beyond a bound.
    fn add(&self, of: [&Arc<str>; 2], input: &str, word: &'static str, client: &Client) {
        let full = |inputs: &Inputs| inputs.len() >= MAX_INPUTS && !inputs.contains_key(input);
        let input = if self.counters.load().get(word).is_some_and(full) { UNKNOWN } else { input };
        let [model, signature] = of;
        let client = client.for_series((self.metric.name, model, signature, input, word, self.door));
        if self.increment(input, word, &client) {
            return;
        }
        let input: Arc<str> = input.into();
        let shared = |text: &Arc<str>| SharedString::from_shared(Arc::clone(text));
        let value = |label: &&'static str| match *label {
            "model" => shared(model),
            "signature" => shared(signature),
            "input" => shared(&input),
            "client" => SharedString::from_shared(client.label()),
            "door" => SharedString::const_str(self.door.as_str()),
            _ => SharedString::const_str(word),
        };
        let counter = self.metric.counter_of(self.metric.labels.iter().map(value));
        counter.increment(1);
        self.counters.rcu(|counters| {
            let mut counters = HashMap::clone(counters);
            let clients = counters.entry(word).or_default().entry(Arc::clone(&input)).or_default();
            Arc::make_mut(clients).insert(client.slot(), counter.clone());
            counters
        });
    }
}
