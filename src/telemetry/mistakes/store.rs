//! The clients with the most mistakes, and all others added up.
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use super::kinds::{Kinds, Mistake, Repeated, cut};
use crate::repair::fix::Language;
use crate::telemetry::clients::OTHER;
use crate::telemetry::traffic::{Series, Totals, Traffic};

/// Mistakes of one client that are listed.
pub(super) const MAX_KINDS: usize = 16;
/// Mistakes of the clients that are added up.
const MAX_OTHER: usize = 64;
/// Mistakes of all clients together. Beyond, each client has as many as all can have.
const MAX_TOTAL: usize = 768;
/// Bytes of a client's name.
const MAX_NAME: usize = 128;

/// Counts by client. Which clients are listed is decided by the space-saving algorithm (Metwally,
/// 2005): a new client takes the place of the lightest, and begins with its weight. So a client
/// with more than 1 in `max` of all mistakes is always listed, however many names others invent.
#[derive(Debug)]
pub(super) struct Store {
    max: usize,
    clients: HashMap<Arc<str>, Listed>,
    /// By weight, the lightest first; or by an earlier weight, which was less.
    order: BTreeSet<(u64, Arc<str>)>,
    other: Listed,
    /// Mistakes listed for all clients but `other`.
    kinds: usize,
}

/// What is known of one client.
#[derive(Debug)]
pub(super) struct Listed {
    traffic: Arc<Traffic>,
    /// Its mistakes, and those of the clients that had its place before.
    weight: u64,
    kinds: Kinds,
    first: SystemTime,
    last: SystemTime,
    series: Series,
}

/// A copy of what is known of one client.
#[derive(Debug, Clone)]
pub(crate) struct ClientMistakes {
    pub name: Arc<str>,
    pub totals: Totals,
    /// When it was first seen, and when it last made a mistake or was first seen.
    pub first: SystemTime,
    pub last: SystemTime,
    pub kinds: Vec<Repeated>,
    /// Mistakes that are not among `kinds`.
    pub unlisted: u64,
}

impl Listed {
    fn new(now: SystemTime) -> Self {
        Self {
            traffic: Arc::default(),
            weight: 0,
            kinds: Kinds::default(),
            first: now,
            last: now,
            series: Series::starting(Totals::default()),
        }
    }

    fn copy(&self, name: &Arc<str>) -> ClientMistakes {
        ClientMistakes {
            name: Arc::clone(name),
            totals: self.traffic.totals(),
            first: self.first,
            last: self.last,
            kinds: self.kinds.iter().cloned().collect(),
            unlisted: self.kinds.unlisted,
        }
    }
}

impl Store {
    pub(super) fn new(max: usize, now: SystemTime) -> Self {
        Self {
            max: max.max(1),
            clients: HashMap::new(),
            order: BTreeSet::new(),
            other: Listed::new(now),
            kinds: 0,
        }
    }

    /// What counts the requests of a client, and whether the client was added for it. A client that
    /// makes no mistake takes no other's place.
    pub(super) fn traffic(&mut self, name: &str, now: SystemTime) -> (Arc<Traffic>, bool) {
        let name = cut(name, MAX_NAME);
        if let Some(client) = self.clients.get(name) {
            return (Arc::clone(&client.traffic), false);
        }
        if name == OTHER || self.clients.len() >= self.max {
            return (Arc::clone(&self.other.traffic), false);
        }
        self.add(name.into(), Listed::new(now));
        (self.clients.get(name).map_or_else(Arc::default, |client| Arc::clone(&client.traffic)), true)
    }

    /// Counts what one request did wrong. Returns whether a client was added.
    pub(super) fn record(
        &mut self,
        name: &str,
        language: Language,
        mismatch: bool,
        mistakes: &[Mistake<'_>],
        now: SystemTime,
    ) -> bool {
        let name = cut(name, MAX_NAME);
        let is_new = name != OTHER && !self.clients.contains_key(name);
        if is_new {
            let weight = if self.clients.len() < self.max { 0 } else { self.drop_lightest() };
            self.add(name.into(), Listed { weight, ..Listed::new(now) });
        }
        let max = if self.kinds < MAX_TOTAL { MAX_KINDS } else { (MAX_TOTAL / self.max).clamp(1, MAX_KINDS) };
        let (client, max) = match self.clients.get_mut(name) {
            Some(client) => (client, max),
            None => (&mut self.other, MAX_OTHER),
        };
        if mismatch {
            client.traffic.mismatch();
        }
        client.last = now;
        let before = client.kinds.len();
        for mistake in mistakes {
            client.kinds.add(language, mistake, now, max.max(before));
        }
        client.weight += mistakes.len() as u64;
        if name != OTHER {
            self.kinds += client.kinds.len() - before;
        }
        is_new
    }

    /// Takes a sample of every client.
    pub(super) fn sample(&mut self) {
        for client in self.clients.values_mut() {
            client.series.sample(client.traffic.totals());
        }
    }

    /// The listed clients, then all others together under [`OTHER`].
    pub(super) fn copy(&self) -> Vec<ClientMistakes> {
        let mut all: Vec<_> = self.clients.iter().map(|(name, client)| client.copy(name)).collect();
        all.push(self.other.copy(&OTHER.into()));
        all
    }

    /// The last hour of each client that had requests in it, as [`Series::to_json`].
    pub(super) fn history(&self) -> serde_json::Map<String, serde_json::Value> {
        let shown = |(name, client): (&Arc<str>, &Listed)| {
            (name.to_string(), client.series.to_json(client.traffic.totals()))
        };
        self.clients.iter().map(shown).collect()
    }

    fn add(&mut self, name: Arc<str>, client: Listed) {
        self.order.insert((client.weight, Arc::clone(&name)));
        self.clients.insert(name, client);
    }

    /// Moves the lightest client to the others, and returns its weight.
    fn drop_lightest(&mut self) -> u64 {
        let (weight, name) = loop {
            let Some((weight, name)) = self.order.pop_first() else { return 0 };
            match self.clients.get(&name) {
                // A mistake moves its client here once at most, and only when a place is needed.
                Some(client) if client.weight > weight => drop(self.order.insert((client.weight, name))),
                _ => break (weight, name),
            }
        };
        if let Some(client) = self.clients.remove(&name) {
            self.kinds -= client.kinds.len();
            client.traffic.retire(&self.other.traffic);
            self.other.last = self.other.last.max(client.last);
            self.other.kinds.merge(client.kinds, MAX_OTHER);
        }
        weight
    }
}
