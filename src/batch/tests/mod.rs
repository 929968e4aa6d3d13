//! Tests of the batching core in virtual time.
mod content;
mod fairness;
mod properties;
mod timing;

use super::queue::{Entry, Formed, Queue, Request, RunId};
use super::settings::Settings;
use super::tuner::Learned;
use crate::concurrency::Micros;

/// Numbers that look random and are the same in each run.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Between 0 and 1.
    pub(super) fn unit(&mut self) -> f64 {
        self.below(1 << 40) as f64 / (1_u64 << 40) as f64
    }
}

pub(super) fn settings(max_rows: u64) -> Settings {
    Settings { enabled: true, max_rows, ..Settings::default() }
}

pub(super) fn queue(settings: &Settings) -> Queue<u64> {
    Queue::new(settings, &Learned::default())
}

pub(super) fn request(peer: u64, payload: u64) -> Request<u64> {
    Request { peer, rows: 1, deadline: None, payload }
}

/// Offers a request that is expected to wait.
pub(super) fn push(queue: &mut Queue<u64>, key: u128, request: Request<u64>, now: Micros) -> u64 {
    match queue.push(key, request, now) {
        Entry::Waits { number, displaced } if displaced.is_empty() => number,
        other => panic!("{other:?}"),
    }
}

/// Starts the next run, if one may start.
pub(super) fn start(queue: &mut Queue<u64>, now: Micros) -> Option<(RunId, Formed<u64>)> {
    let (key, run) = queue.start(now)?;
    let formed = queue.form(key, run, now)?;
    Some((run, formed))
}

pub(super) fn payloads(formed: &Formed<u64>) -> Vec<u64> {
    formed.members.iter().map(|member| member.payload).collect()
}
