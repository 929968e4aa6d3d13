//! What the clients saw, and the comparison with what the sidecar counted.
use std::collections::BTreeMap;
use std::fmt;

use crate::support::admin::Metrics;
use crate::upstream::MODEL;

/// Faults that are kept with their text.
const KEPT: usize = 20;

/// The outcomes of requests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    codes: BTreeMap<i32, u64>,
    /// Cancelled by the client, or its connection was closed: the sidecar may have answered, or may
    /// never have seen the request.
    pub(crate) broken_off: u64,
    faults: u64,
    texts: Vec<String>,
}

impl Tally {
    pub(crate) fn answered(&mut self, code: i32) {
        *self.codes.entry(code).or_default() += 1;
    }

    pub(crate) fn fault(&mut self, text: String) {
        self.faults += 1;
        if self.texts.len() < KEPT {
            self.texts.push(text);
        }
    }

    pub(crate) fn add(mut self, other: Self) -> Self {
        for (code, count) in other.codes {
            *self.codes.entry(code).or_default() += count;
        }
        self.broken_off += other.broken_off;
        self.faults += other.faults;
        self.texts.extend(other.texts);
        self
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (code, count) in &self.codes {
            writeln!(formatter, "code {code}: {count} answers")?;
        }
        writeln!(formatter, "broken off: {}", self.broken_off)
    }
}

/// Everything that is wrong: the faults of the clients, and counters that differ.
pub(crate) fn faults(tally: &Tally, metrics: &Metrics) -> Vec<String> {
    let mut faults: Vec<String> = tally.texts.iter().take(KEPT).cloned().collect();
    if tally.faults > faults.len() as u64 {
        faults.push(format!("and {} more", tally.faults - faults.len() as u64));
    }
    let counted = |labels: &[(&str, &str)]| {
        let all = [&[("method", "Predict")], labels].concat();
        metrics.sum("tfs_sidecar_requests_total", &all) as u64
    };
    // What a client broke off may have been answered with any code, or not have arrived.
    for (code, name) in CODES {
        let seen = tally.codes.get(&code).copied().unwrap_or_default();
        let count = counted(&[("code", name)]);
        if !(seen..=seen + tally.broken_off).contains(&count) {
            faults.push(format!("{name}: the clients saw {seen}, the sidecar counted {count}"));
        }
    }
    let (seen, count) = (tally.codes.values().sum::<u64>(), counted(&[]));
    if !(seen..=seen + tally.broken_off).contains(&count) {
        faults.push(format!("the clients saw {seen} answers, the sidecar counted {count}"));
    }
    if seen == 0 || counted(&[("model", MODEL), ("outcome", "repaired")]) == 0 {
        faults.push("nothing was answered or repaired: this run proves nothing".to_owned());
    }
    faults
}

const CODES: [(i32, &str); 5] = [
    (0, "OK"),
    (3, "INVALID_ARGUMENT"),
    (4, "DEADLINE_EXCEEDED"),
    (14, "UNAVAILABLE"),
    (8, "RESOURCE_EXHAUSTED"),
];
