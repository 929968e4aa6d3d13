//! What the clients saw, and the comparison with what the sidecar logged and counted.
use std::collections::BTreeMap;

use crate::judge::{self, Answer};
use crate::log::Lines;
use crate::request::{Act, Door, Sent};
use crate::support::admin::Metrics;
use crate::upstream::{ECHO, SCALED};
use crate::world::Meanwhile;

/// Faults that are kept with their text.
const KEPT: usize = 20;
pub(crate) const CODES: [(i32, &str); 5] = [
    (0, "OK"),
    (3, "INVALID_ARGUMENT"),
    (4, "DEADLINE_EXCEEDED"),
    (8, "RESOURCE_EXHAUSTED"),
    (14, "UNAVAILABLE"),
];

/// The name of a client, the name of a code, and the outcome where a client can tell it.
pub(crate) type Key = (String, String, String);

/// The outcomes of requests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: BTreeMap<Key, u64>,
    /// By what was sent, over which listener, and the code.
    pub(crate) kinds: BTreeMap<(Door, Act), BTreeMap<i32, u64>>,
    /// Cancelled by the client, or its connection was closed: the sidecar may have answered, or may
    /// never have seen the request. By the name of the client.
    pub(crate) broken_off: BTreeMap<String, u64>,
    pub(crate) shared: u64,
    pub(crate) shifted: BTreeMap<String, u64>,
    pub(crate) faults: u64,
    pub(crate) texts: Vec<String>,
}

impl Tally {
    pub(crate) fn answered(&mut self, name: &str, sent: &Sent, answer: &Answer, meanwhile: &Meanwhile) {
        let outcome = match (answer.code, answer.repairs.is_empty()) {
            (0, true) => "conforming",
            (0, false) => "repaired",
            (3, _) if answer.is_theirs() => "forwarded",
            (3, _) => "rejected",
            _ => "",
        };
        let code = CODES.iter().find(|(code, _)| *code == answer.code);
        let code = code.map_or_else(|| answer.code.to_string(), |(_, name)| (*name).to_owned());
        *self.answered.entry((name.to_owned(), code, outcome.to_owned())).or_default() += 1;
        *self.kinds.entry((sent.door, sent.act)).or_default().entry(answer.code).or_default() += 1;
        self.shared += u64::from(answer.shared);
        if answer.warnings.iter().any(|warning| warning.contains("(SHIFTED)")) {
            *self.shifted.entry(name.to_owned()).or_default() += 1;
        }
        if let Some(fault) = judge::fault(sent, answer, meanwhile) {
            self.fault(fault);
        }
    }

    pub(crate) fn broken_off(&mut self, name: String) {
        *self.broken_off.entry(name).or_default() += 1;
    }

    pub(crate) fn fault(&mut self, text: String) {
        self.faults += 1;
        if self.texts.len() < KEPT {
            self.texts.push(text);
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        other.answered.into_iter().for_each(|(key, count)| *self.answered.entry(key).or_default() += count);
        for (kind, codes) in other.kinds {
            let own = self.kinds.entry(kind).or_default();
            for (code, count) in codes {
                *own.entry(code).or_default() += count;
            }
        }
        other.broken_off.into_iter().for_each(|(name, count)| {
            *self.broken_off.entry(name).or_default() += count;
        });
        other.shifted.into_iter().for_each(|(name, count)| *self.shifted.entry(name).or_default() += count);
        self.shared += other.shared;
        self.faults += other.faults;
        self.texts.extend(other.texts);
    }

    /// The faults of the clients, as far as their texts were kept.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.texts.iter().take(KEPT).cloned().collect();
        if self.faults > faults.len() as u64 {
            faults.push(format!("and {} more", self.faults - faults.len() as u64));
        }
        faults
    }
}

/// Clients and access log: each client was answered as often as the log says, in the same ways.
pub(crate) fn compare_with_log(tally: &Tally, lines: &Lines) -> Vec<String> {
    let mut faults = Vec::new();
    let keys: std::collections::BTreeSet<&Key> = tally.answered.keys().chain(lines.requests.keys()).collect();
    for key in keys {
        let seen = tally.answered.get(key).copied().unwrap_or_default();
        let logged = lines.requests.get(key).copied().unwrap_or_default();
        let (name, code, outcome) = key;
        // What a client broke off may have been answered in any way, or not have arrived.
        let more = tally.broken_off.get(name).copied().unwrap_or_default();
        if !(seen..=seen + more).contains(&logged) {
            faults.push(format!(
                "{name}, {code} {outcome}: the client saw {seen} answers, the access log has {logged}"
            ));
        }
    }
    faults
}

/// Access log and counters: the sidecar counted what it logged, by listener, code and outcome.
pub(crate) fn compare_with_metrics(lines: &Lines, metrics: &Metrics) -> Vec<String> {
    let mut faults = Vec::new();
    let counted = |labels: &[(&str, &str)]| metrics.sum("tfs_sidecar_requests_total", labels) as u64;
    for (_, code) in CODES.iter().chain(&[(1, "CANCELLED"), (13, "INTERNAL"), (2, "UNKNOWN")]) {
        let logged: u64 =
            lines.requests.iter().filter(|((_, of, _), _)| of == code).map(|(_, count)| count).sum();
        // The attackers use another method over gRPC, and another model over REST.
        let grpc = counted(&[("door", "grpc"), ("method", "Predict"), ("code", code)]);
        let rest = [ECHO, SCALED].map(|model| counted(&[("door", "rest"), ("model", model), ("code", code)]));
        let count = grpc + rest.iter().sum::<u64>();
        let nameless = lines.nameless.get(*code).copied().unwrap_or_default();
        if !(logged - nameless..=logged).contains(&count) {
            faults.push(format!("{code}: the access log has {logged} requests, the sidecar counted {count}"));
        }
    }
    faults
}
