//! The requests of one signature that wait for a run, and its runs in flight. A state machine: the
//! caller passes the time in and carries out what it returns.
//!
//! Requests with equal keys are in one *bucket*. [`Queue::start`] is to be called until it returns
//! `None` after each of [`Queue::push`], [`Queue::form`], [`Queue::finish`] and
//! [`Queue::set_draining`], and at the time that [`Queue::due`] says.
mod bucket;
mod chains;
mod schedule;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use slab::Slab;

use super::settings::Settings;
use super::tuner::{Ended, Learned, Tuner};
use crate::concurrency::Micros;
use bucket::Bucket;
use schedule::Place;
use waiting::{Tag, Waiting};

/// So many runs may wait for a permit: whose turn it is next is decided when one is granted.
const MAX_RESERVED: usize = 4;
/// So many buckets get their place anew when a run starts. One client may have many of them.
const MAX_STALE: usize = 64;
/// Idle buckets are forgotten when there are so many.
const MAX_BUCKETS: usize = 64;

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
    /// It waits under this number. The queue was full and `displaced` lost their places: the newest
    /// requests of the client with the longest backlog.
    Waits {
        number: u64,
        displaced: Vec<Request<T>>,
    },
    /// It could not wait for the next run, but can be answered in time if it is sent alone now, as
    /// this run.
    Alone(RunId, T),
    Refused(Refusal, T),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// So many rows wait.
    Full { rows: u64, retry: Micros },
    /// It cannot be answered before its deadline: it would be answered after so long. 0: the
    /// deadline has passed.
    TooLate { wait: Micros },
}

/// A run that is reserved or in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunId(u64);

/// Why a run started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A run was free.
    Idle,
    /// As many rows waited as a run may have.
    Full,
    /// A run came back.
    Returned,
    /// A request had waited for `max_delay`.
    Delay,
    /// A request could not wait any longer.
    Deadline,
    Drain,
}

/// The members of a run, in order of arrival, and those whose deadline does not allow it any more.
#[derive(Debug)]
pub(crate) struct Formed<T> {
    pub cause: Cause,
    /// Of the members together.
    pub rows: u64,
    /// If there are none, the run has ended.
    pub members: Vec<Request<T>>,
    /// Each with the time after which it would be answered; 0 if its deadline has passed.
    pub late: Vec<(Request<T>, Micros)>,
}

#[derive(Debug)]
pub(crate) struct Queue<T> {
    settings: Settings,
    max_delay: Micros,
    waiting: Waiting<T>,
    buckets: Slab<Bucket>,
    by_key: BTreeMap<u128, u32>,
    purge_at: usize,
    tuners: Slab<Tuner>,
    /// The tuner of the bucket that was used last. Runs without a key are its.
    main: usize,
    /// It belongs to a bucket.
    main_taken: bool,
    /// The buckets that may start a run, in the order in which they are due, and those that will
    /// when a request has waited long enough.
    ready: BTreeSet<(Tag, u64, u32)>,
    delayed: BTreeSet<(Micros, u32)>,
    runs: Slab<Run>,
    /// Runs that are reserved and not formed, and runs without a key.
    reserved: usize,
    alone: usize,
    /// The rows of all runs in flight, and of those without a key.
    flying: u64,
    flying_alone: u64,
    last: u64,
    /// Requests that come until then wait for others, although nobody waits.
    lingers_until: Micros,
    draining: bool,
}

#[derive(Debug)]
struct Run {
    number: u64,
    /// `None` if its key is not known.
    bucket: Option<u32>,
    tuner: usize,
    /// The number of the tuner's setting.
    epoch: u32,
    cause: Cause,
    /// When it was formed.
    started: Option<Micros>,
    /// When its oldest member came.
    came: Micros,
    requests: u32,
    /// Of its members, and with those that it is filled with.
    own: u64,
    rows: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new(settings: &Settings, learned: &Learned) -> Self {
        let mut tuners = Slab::new();
        let main = tuners.insert(Tuner::new(settings, learned));
        Self {
            settings: settings.clone(),
            max_delay: settings.max_delay.as_micros() as Micros,
            waiting: Waiting::new(settings.max_queue_rows),
            buckets: Slab::new(),
            by_key: BTreeMap::new(),
            purge_at: MAX_BUCKETS,
            tuners,
            main,
            main_taken: false,
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            runs: Slab::new(),
            reserved: 0,
            alone: 0,
            flying: 0,
            flying_alone: 0,
            last: 0,
            lingers_until: 0,
            draining: false,
        }
    }

    /// What was learned, for the queue of the next version.
    pub(crate) fn learned(&self) -> Learned {
        self.tuners[self.main].learned()
    }

    /// Rows that wait.
    pub(crate) fn rows(&self) -> u64 {
        self.waiting.rows()
    }

    /// The learned cost of a run and of a row of the key that was used last, in microseconds.
    pub(crate) fn cost(&self) -> Option<(f64, f64)> {
        self.tuners[self.main].cost()
    }

    /// How many runs of that key may be in flight, and how many rows they may have.
    pub(crate) fn runs_and_rows(&self) -> (usize, u64) {
        let tuner = &self.tuners[self.main];
        (tuner.runs(), tuner.rows())
    }

    /// Starts a run of one request without looking at its key, if nobody waits and a run may start.
    pub(crate) fn start_alone(&mut self, rows: u64, now: Micros) -> Option<RunId> {
        let tuner = &mut self.tuners[self.main];
        let free = self.waiting.is_empty()
            && self.max_delay == 0
            && self.runs.len() < tuner.runs()
            && !tuner.holds(rows, self.flying, self.runs.len())
            && (now >= self.lingers_until || self.draining);
        if !free {
            return None;
        }
        let own = rows;
        let rows = self.settings.filled(rows);
        tuner.came(now);
        let epoch = tuner.formed(false, false);
        self.alone += 1;
        self.flying += rows;
        self.flying_alone += rows;
        Some(self.run(None, self.main, epoch, Cause::Idle, Some(now), (own, rows)))
    }

    /// Offers a request.
    pub(crate) fn push(&mut self, key: u128, request: Request<T>, now: Micros) -> Entry<T> {
        let at = self.bucket(key, now);
        match self.place(at, &request, now) {
            Place::Waits => {}
            Place::Alone => {
                let bucket = &mut self.buckets[at as usize];
                bucket.runs += 1;
                let (tuner, rows) = (bucket.tuner, self.settings.filled(request.rows));
                self.tuners[tuner].came(now);
                let epoch = self.tuners[tuner].formed(false, false);
                self.flying += rows;
                self.buckets[at as usize].flying += rows;
                let run = self.run(Some(at), tuner, epoch, Cause::Deadline, Some(now), (request.rows, rows));
                return Entry::Alone(run, request.payload);
            }
            Place::TooLate(wait) => return Entry::Refused(Refusal::TooLate { wait }, request.payload),
        }
        let Some(displaced) = self.make_room(&request, now) else {
            let refusal = Refusal::Full { rows: self.rows(), retry: self.retry(at) };
            return Entry::Refused(refusal, request.payload);
        };
        let bucket = &mut self.buckets[at as usize];
        bucket.urgent = bucket.urgent.into_iter().chain(request.deadline).min();
        self.tuners[bucket.tuner].came(now);
        let number = self.waiting.push(&mut bucket.lane, at, request, now);
        self.refresh(at, now);
        Entry::Waits { number, displaced }
    }

    /// The caller of a waiting request has left. `None` if its run was formed already.
    pub(crate) fn cancel(&mut self, key: u128, number: u64, now: Micros) -> Option<Request<T>> {
        let (at, bucket) = self.waiting.find(number)?;
        if self.buckets.get(bucket as usize)?.key != key {
            return None;
        }
        self.remove(at, bucket, now)
    }

    /// Reserves a run for the key whose turn it is, if one may start. Its members are taken with
    /// [`Queue::form`], once it has a permit.
    pub(crate) fn start(&mut self, now: Micros) -> Option<(u128, RunId)> {
        while let Some((due, at)) = self.delayed.first().copied()
            && due <= now
        {
            self.refresh(at, now);
        }
        if self.reserved >= MAX_RESERVED {
            return None;
        }
        // A client's other buckets keep the place that it had when they came; it was served since.
        let mut first = self.ready.first().copied()?;
        for _ in 0..MAX_STALE {
            self.refresh(first.2, now);
            match self.ready.first().copied()? {
                same if same == first => break,
                next => first = next,
            }
        }
        let at = first.2;
        let bucket = &mut self.buckets[at as usize];
        let (key, tuner, cause) = (bucket.key, bucket.tuner, bucket.cause(self.draining));
        bucket.runs += 1;
        bucket.reserved += 1;
        self.reserved += 1;
        let run = self.run(Some(at), tuner, 0, cause, None, (0, 0));
        self.refresh(at, now);
        Some((key, run))
    }

    /// Takes the members of a run that was reserved. `None`, and the run has ended, if nobody waits
    /// any more.
    pub(crate) fn form(&mut self, key: u128, run: RunId, now: Micros) -> Option<Formed<T>> {
        let slot = self.find(run)?;
        let (at, cause) = match &self.runs[slot] {
            Run { bucket: Some(at), started: None, cause, .. } => (*at, *cause),
            _ => return None,
        };
        let bucket = &mut self.buckets[at as usize];
        debug_assert_eq!(bucket.key, key);
        let (settings, tuner) = (&self.settings, &mut self.tuners[bucket.tuner]);
        let limit = if self.draining { settings.rows_per_run() } else { tuner.rows() };
        let mut formed = Formed { cause, rows: 0, members: Vec::new(), late: Vec::new() };
        let late = |request: &Request<T>| {
            let deadline = request.deadline?;
            let least = tuner.fastest(settings.filled(request.rows)).unwrap_or(0);
            (deadline <= now + least).then_some(if deadline <= now { 0 } else { least })
        };
        let (all, cost) = (bucket.lane.rows <= limit, tuner.row_cost());
        let came = self.waiting.oldest(&bucket.lane).map_or(now, |node| node.came);
        let mut rows = 0;
        let fits = |request: &Request<T>| {
            let late = late(request).is_some();
            let fits = late || rows == 0 || rows + request.rows <= limit;
            if fits && !late {
                rows += request.rows;
            }
            fits
        };
        if all {
            formed.members.reserve(bucket.lane.requests);
        }
        self.waiting.take(&mut bucket.lane, cost, all, fits, |request| {
            if let Some(wait) = late(&request) {
                formed.late.push((request, wait));
            } else {
                formed.rows += request.rows;
                formed.members.push(request);
            }
        });
        let capped = bucket.lane.requests > 0;
        tuner.left(formed.late.len(), now);
        if formed.members.is_empty() {
            self.end(run, false, now);
            return (!formed.late.is_empty()).then_some(formed);
        }
        let epoch = tuner.formed(bucket.blocked, capped);
        bucket.blocked = false;
        bucket.reserved -= 1;
        self.reserved -= 1;
        if !capped {
            bucket.urgent = None;
        }
        let run = &mut self.runs[slot];
        run.started = Some(now);
        run.came = came;
        run.epoch = epoch;
        run.requests = formed.members.len() as u32;
        run.own = formed.rows;
        run.rows = settings.filled(formed.rows);
        bucket.flying += run.rows;
        self.flying += run.rows;
        self.refresh(at, now);
        Some(formed)
    }

    /// A run has ended, formed or not. `answered`: TF Serving ran it.
    pub(crate) fn finish(&mut self, run: RunId, answered: bool, now: Micros) {
        self.end(run, answered, now);
    }

    /// When [`Queue::start`] is to be called although nothing has happened: a request has waited
    /// for `max_delay` or for the clients of a run that was answered, or cannot wait any longer.
    pub(crate) fn due(&self) -> Option<Micros> {
        self.delayed.first().map(|(due, _)| *due)
    }

    /// While draining, nothing waits for other requests or for other runs.
    pub(crate) fn set_draining(&mut self, draining: bool, now: Micros) {
        self.draining = draining;
        self.refresh_all(now);
    }

    #[cfg(test)]
    pub(super) fn setting(&self) -> String {
        self.tuners[self.main].describe()
    }

    /// How many buckets and clients are remembered.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.buckets.len() + self.tuners.len() + self.waiting.memory()
    }

    fn find(&self, run: RunId) -> Option<usize> {
        let slot = run.0 as u32 as usize;
        (self.runs.get(slot)?.number as u32 == (run.0 >> 32) as u32).then_some(slot)
    }

    fn run(
        &mut self,
        bucket: Option<u32>,
        tuner: usize,
        epoch: u32,
        cause: Cause,
        started: Option<Micros>,
        (own, rows): (u64, u64),
    ) -> RunId {
        self.last += 1;
        let number = self.last;
        let came = started.unwrap_or(0);
        let run = Run { number, bucket, tuner, epoch, cause, started, came, requests: 1, own, rows };
        let slot = self.runs.insert(run);
        RunId((number << 32) | slot as u64)
    }

    fn end(&mut self, run: RunId, answered: bool, now: Micros) {
        let Some(slot) = self.find(run) else { return };
        let run = self.runs.remove(slot);
        self.flying -= run.rows;
        let tuner = self.tuners.get_mut(run.tuner);
        if let (Some(tuner), Some(started)) = (tuner, run.started) {
            // A run without a key may have had another one than the tuner's.
            if answered && (run.bucket.is_some() || self.buckets.len() < 2) {
                let Run { epoch, requests, rows, came, .. } = run;
                tuner.answered(Ended { epoch, requests, rows, came, started }, now);
            } else {
                tuner.failed(run.epoch, run.requests as usize, now);
            }
        }
        if answered {
            self.linger(&run, now);
        }
        let Some(at) = run.bucket else {
            self.alone -= 1;
            self.flying_alone -= run.rows;
            return self.refresh_all(now);
        };
        let bucket = &mut self.buckets[at as usize];
        bucket.runs -= 1;
        bucket.flying -= run.rows;
        if run.started.is_none() {
            bucket.reserved -= 1;
            self.reserved -= 1;
        }
        self.refresh(at, now);
    }
}
