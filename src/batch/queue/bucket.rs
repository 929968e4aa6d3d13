//! The requests with one key: those that wait, and their runs.
use super::Cause;
use super::waiting::{Lane, Tag};
use crate::concurrency::Micros;

#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) key: u128,
    pub(super) lane: Lane,
    pub(super) tuner: usize,
    /// Runs that are reserved or in flight, and those that are reserved only.
    pub(super) runs: usize,
    pub(super) reserved: usize,
    /// Rows in flight.
    pub(super) flying: u64,
    pub(super) used: Micros,
    /// No request that waits has an earlier deadline.
    pub(super) urgent: Option<Micros>,
    /// Its requests wait for those of the clients that were just answered.
    pub(super) linger: Option<Linger>,
    /// Requests waited for a run to come back.
    pub(super) blocked: bool,
    /// Why it may start a run, if it waits for others: it is full, or a deadline comes first.
    pub(super) delays: bool,
    pub(super) full: bool,
    pub(super) urged: bool,
    /// Its entries in the queue's order of buckets.
    pub(super) ready: Option<(Tag, u64, u32)>,
    pub(super) due: Option<(Micros, u32)>,
}

/// Requests wait until there are so many rows, or until this time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Linger {
    pub(super) rows: u64,
    pub(super) until: Micros,
}

impl Bucket {
    pub(super) fn new(key: u128, tuner: usize) -> Self {
        Self {
            key,
            lane: Lane::new(),
            tuner,
            runs: 0,
            reserved: 0,
            flying: 0,
            used: 0,
            urgent: None,
            linger: None,
            blocked: false,
            delays: false,
            full: false,
            urged: false,
            ready: None,
            due: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.lane.requests == 0 && self.runs == 0
    }

    /// Why its next run starts.
    pub(super) fn cause(&self, draining: bool) -> Cause {
        if draining {
            Cause::Drain
        } else if self.blocked {
            Cause::Returned
        } else if !self.delays {
            Cause::Idle
        } else if self.full {
            Cause::Full
        } else if self.urged {
            Cause::Deadline
        } else {
            Cause::Delay
        }
    }
}
