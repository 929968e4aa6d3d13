//! The names of clients in metrics: the first so many have series of their own, and the number of
//! those series is bounded too.
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::metrics::UNKNOWN;
use crate::repair::fix::Language;

/// The label value for the clients that came after the first `max_clients`, and for those whose
/// series would be too many.
pub(crate) const OTHER: &str = "__other__";

/// Series with the name of a client, of all metrics together. A series takes about 400 bytes.
const MAX_SERIES: usize = 2048;

/// The clients that metrics name. Names are never removed: a series whose label value changes
/// hands is of no use.
#[derive(Debug)]
pub(crate) struct Clients {
    max: usize,
    /// Read without a lock. A new name copies the map, which happens `max` times.
    slots: ArcSwap<HashMap<Arc<str>, Slot>>,
    /// The hashes of the series with the name of a client.
    series: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

/// Who sent a request, as far as metrics and the status page show it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    name: Arc<str>,
    slot: Slot,
    language: Language,
    clients: Arc<Clients>,
}

/// Stands for a label value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(u32);

impl Slot {
    const UNNAMED: Self = Self(0);
    const UNKNOWN: Self = Self(1);
    const OTHER: Self = Self(2);
    const FIRST: u32 = 3;
}

impl Clients {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            slots: ArcSwap::default(),
            series: Mutex::default(),
            hasher: RandomState::new(),
        })
    }

    /// A client where clients are not named.
    pub(crate) fn unnamed(self: &Arc<Self>) -> Client {
        self.client("".into(), Slot::UNNAMED)
    }

    /// A client that nothing names.
    pub(crate) fn unknown(self: &Arc<Self>) -> Client {
        self.client(UNKNOWN.into(), Slot::UNKNOWN)
    }

    /// The client with this name.
    pub(crate) fn named(self: &Arc<Self>, name: &str) -> Client {
        if let Some((name, slot)) = self.slots.load().get_key_value(name) {
            return self.client(Arc::clone(name), *slot);
        }
        match name {
            OTHER => return self.client(OTHER.into(), Slot::OTHER),
            UNKNOWN => return self.unknown(),
            _ => {}
        }
        let name: Arc<str> = name.into();
        let slot = if self.slots.load().len() < self.max { self.add(&name) } else { Slot::OTHER };
        self.client(name, slot)
    }

    fn client(self: &Arc<Self>, name: Arc<str>, slot: Slot) -> Client {
        Client { name, slot, language: Language::default(), clients: Arc::clone(self) }
    }

    fn add(&self, name: &Arc<str>) -> Slot {
        self.slots.rcu(|slots| {
            let mut slots = HashMap::clone(slots);
            if slots.len() < self.max {
                let next = Slot(Slot::FIRST + slots.len() as u32);
                slots.entry(Arc::clone(name)).or_insert(next);
            }
            slots
        });
        self.slots.load().get(name).copied().unwrap_or(Slot::OTHER)
    }
}

impl Client {
    /// The name, whether or not metrics have it; empty where clients are not named.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The client with the language that its user agent tells.
    #[must_use]
    pub(crate) fn speaking(self, language: Language) -> Self {
        Self { language, ..self }
    }

    pub(crate) fn language(&self) -> Language {
        self.language
    }

    pub(super) fn slot(&self) -> Slot {
        self.slot
    }

    /// The value of the label `client`.
    pub(super) fn label(&self) -> Arc<str> {
        if self.slot == Slot::OTHER { OTHER.into() } else { Arc::clone(&self.name) }
    }

    /// The client in a series that is about to be added: itself, or those that share one if there
    /// are too many. A series that was added before is no new one.
    pub(super) fn for_series(&self, series: impl Hash) -> Self {
        if self.slot.0 < Slot::FIRST {
            return self.clone();
        }
        let hash = self.clients.hasher.hash_one((series, self.slot));
        let mut all = self.clients.series.lock().unwrap_or_else(PoisonError::into_inner);
        if all.contains(&hash) || (all.len() < MAX_SERIES && all.insert(hash)) {
            return self.clone();
        }
        Self { slot: Slot::OTHER, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_names_keep_their_label_and_later_ones_share_one() {
        let clients = Clients::new(2);
        let labels = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| clients.named(name).label().to_string()).collect()
        };
        assert_eq!(labels(&["a", "b", "c", "a", "b"]), ["a", "b", OTHER, "a", "b"]);
        assert_eq!(clients.named("c").name(), "c");
        assert_ne!(clients.named("a").slot(), clients.named("b").slot());
        assert_eq!(clients.named("c").slot(), clients.named("d").slot());
    }

    #[test]
    fn a_client_cannot_take_a_place_with_the_name_of_no_client() {
        let clients = Clients::new(1);
        for name in [OTHER, UNKNOWN] {
            assert_eq!(clients.named(name).label().as_ref(), name);
        }
        assert_eq!(clients.named("a").label().as_ref(), "a");
    }

    #[test]
    fn series_with_names_are_bounded_and_known_ones_stay() {
        let clients = Clients::new(128);
        let of = |client: &str, series: usize| clients.named(client).for_series(series).label().to_string();
        for series in 0..MAX_SERIES {
            assert_eq!(of("a", series), "a");
        }
        assert_eq!(of("b", 0), OTHER);
        assert_eq!(of("a", 0), "a");
    }
}
