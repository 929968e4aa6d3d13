//! The requests of one signature that wait for a run, and its runs in flight. A state machine: the
//! caller passes the time in and carries out what it returns.
use std::collections::{BTreeMap, VecDeque};

use super::settings::Settings;
use super::tuner::{Learned, Tuner};
use crate::concurrency::Micros;

/// A request that may share a run.
#[derive(Debug)]
pub(crate) struct Request<T> {
    /// The client, as a number that tells it from others.
    pub peer: u64,
    pub rows: u64,
    pub deadline: Option<Micros>,
    pub payload: T,
}

/// What became of a request that was offered.
#[derive(Debug)]
pub(crate) enum Entry<T> {
    /// It waits under this number.
    Waits(u64),
    /// It could not wait for the next run, but can be answered in time if it is sent alone now.
    Alone(T),
    Refused(Refusal, T),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// So many rows wait.
    Full { rows: u64, retry: Micros },
    /// It cannot be answered before its deadline.
    TooLate { wait: Micros },
}

/// A run in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunId(u64);

/// Why a run started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Idle,
    Full,
    Returned,
    Delay,
    Deadline,
    Drain,
}

/// The members of a run, in order of arrival, and those whose deadline has passed meanwhile.
#[derive(Debug)]
pub(crate) struct Formed<T> {
    pub cause: Cause,
    /// Of the members together.
    pub rows: u64,
    pub members: Vec<Request<T>>,
    pub late: Vec<Request<T>>,
}

#[derive(Debug)]
pub(crate) struct Queue<T> {
    settings: Settings,
    learned: Learned,
    buckets: BTreeMap<u128, Bucket<T>>,
    /// With the key, if it is known, and the start.
    runs: BTreeMap<RunId, (Option<u128>, Option<Micros>, u32, u64)>,
    last: u64,
    rows: u64,
    draining: bool,
}

#[derive(Debug)]
struct Bucket<T> {
    waiting: VecDeque<(u64, Request<T>)>,
    tuner: Tuner,
}

impl<T> Queue<T> {
    pub(crate) fn new(settings: &Settings, learned: &Learned) -> Self {
        Self {
            settings: settings.clone(),
            learned: learned.clone(),
            buckets: BTreeMap::new(),
            runs: BTreeMap::new(),
            last: 0,
            rows: 0,
            draining: false,
        }
    }

    /// What was learned, for the queue of the next version.
    pub(crate) fn learned(&self) -> Learned {
        self.learned.clone()
    }

    /// Rows that wait.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The learned cost of a run and of a row of the signature's busiest key, in microseconds.
    pub(crate) fn cost(&self) -> Option<(f64, f64)> {
        self.buckets.values().find_map(|bucket| bucket.tuner.cost())
    }

    /// Starts a run of one request without looking at its key, if nobody waits and a run may start.
    pub(crate) fn start_alone(&mut self, rows: u64, now: Micros) -> Option<RunId> {
        let free = self.rows == 0 && self.runs.is_empty();
        free.then(|| self.run(None, Some(now), 1, rows))
    }

    /// Offers a request. Then [`Queue::start`] is to be called until it returns `None`.
    pub(crate) fn push(&mut self, key: u128, request: Request<T>, _now: Micros) -> Entry<T> {
        if self.rows + request.rows > self.settings.max_queue_rows {
            let refusal = Refusal::Full { rows: self.rows, retry: 10_000 };
            return Entry::Refused(refusal, request.payload);
        }
        self.last += 1;
        self.rows += request.rows;
        let (settings, learned) = (&self.settings, &self.learned);
        let bucket = self
            .buckets
            .entry(key)
            .or_insert_with(|| Bucket { waiting: VecDeque::new(), tuner: Tuner::new(settings, learned) });
        bucket.waiting.push_back((self.last, request));
        Entry::Waits(self.last)
    }

    /// The caller of a waiting request has left. `None` if its run was formed already.
    pub(crate) fn cancel(&mut self, key: u128, number: u64) -> Option<Request<T>> {
        let bucket = self.buckets.get_mut(&key)?;
        let at = bucket.waiting.iter().position(|(other, _)| *other == number)?;
        let (_, request) = bucket.waiting.remove(at)?;
        self.rows -= request.rows;
        Some(request)
    }

    /// Reserves a run for the key whose turn it is, if one may start. Its members are taken with
    /// [`Queue::form`], once it has a permit.
    pub(crate) fn start(&mut self, _now: Micros) -> Option<(u128, RunId)> {
        let lone = self.runs.values().filter(|(key, ..)| key.is_none()).count();
        let free = |key: &u128, bucket: &Bucket<T>| {
            let runs = self.runs.values().filter(|(of, ..)| *of == Some(*key)).count();
            !bucket.waiting.is_empty() && (self.draining || lone + runs < bucket.tuner.runs())
        };
        let key = self.buckets.iter().find(|(key, bucket)| free(key, bucket)).map(|(key, _)| *key)?;
        Some((key, self.run(Some(key), None, 0, 0)))
    }

    /// Takes the members of a run that was reserved. `None`, and the run has ended, if nobody waits
    /// any more.
    pub(crate) fn form(&mut self, key: u128, run: RunId, now: Micros) -> Option<Formed<T>> {
        let Some(bucket) = self.buckets.get_mut(&key) else {
            self.runs.remove(&run);
            return None;
        };
        let (mut members, mut late, mut rows) = (Vec::new(), Vec::new(), 0);
        while let Some((_, front)) = bucket.waiting.front() {
            let is_late = front.deadline.is_some_and(|deadline| deadline <= now);
            if !is_late && !members.is_empty() && rows + front.rows > bucket.tuner.rows() {
                break;
            }
            let Some((_, request)) = bucket.waiting.pop_front() else { break };
            self.rows -= request.rows;
            if is_late {
                late.push(request);
            } else {
                rows += request.rows;
                members.push(request);
            }
        }
        if members.is_empty() && late.is_empty() {
            self.runs.remove(&run);
            return None;
        }
        self.runs.insert(run, (Some(key), Some(now), members.len() as u32, rows));
        Some(Formed { cause: Cause::Returned, rows, members, late })
    }

    /// A run has ended. `answered`: TF Serving ran it. Then [`Queue::start`] is to be called.
    pub(crate) fn finish(&mut self, run: RunId, answered: bool, now: Micros) {
        let Some((Some(key), Some(started), requests, rows)) = self.runs.remove(&run) else { return };
        if answered && let Some(bucket) = self.buckets.get_mut(&key) {
            bucket.tuner.answered(requests, rows, started, now);
        }
    }

    /// When [`Queue::start`] is to be called although nothing has happened: a request has waited
    /// for `max_delay`.
    pub(crate) fn due(&self) -> Option<Micros> {
        None
    }

    /// From now on nothing waits for other requests.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    fn run(&mut self, key: Option<u128>, started: Option<Micros>, requests: u32, rows: u64) -> RunId {
        self.last += 1;
        let id = RunId(self.last);
        self.runs.insert(id, (key, started, requests, rows));
        id
    }
}
