//! Which bucket may start a run, whether a request can wait for it, and who makes room in a full
//! queue.
use super::super::tuner::Tuner;
use super::bucket::{Bucket, Linger};
use super::{MAX_BUCKETS, Queue, Request, Run};
use crate::concurrency::Micros;

/// When a full queue is to be tried again, while the time of a run is not known.
const UNKNOWN_RETRY: Micros = 10_000;

/// What to do with a request that was offered.
pub(super) enum Place {
    Waits,
    Alone,
    TooLate(Micros),
}

impl<T> Queue<T> {
    /// Whether a request can wait for its run, by what is known of the time of runs.
    pub(super) fn place(&self, at: u32, request: &Request<T>, now: Micros) -> Place {
        let Some(deadline) = request.deadline else { return Place::Waits };
        let left = deadline.saturating_sub(now);
        let bucket = &self.buckets[at as usize];
        let tuner = &self.tuners[bucket.tuner];
        let filled = |rows| self.settings.filled(rows);
        if left == 0 {
            return Place::TooLate(0);
        }
        let Some(fastest) = tuner.fastest(filled(request.rows)) else { return Place::Waits };
        let inflight = bucket.runs + self.alone;
        let free = self.draining
            || (bucket.lane.requests == 0
                && inflight < tuner.runs()
                && !tuner.holds(request.rows, bucket.flying + self.flying_alone, inflight));
        let (wait, run) = if free { (0, fastest) } else { self.estimate(bucket, request, now) };
        if wait + run <= left {
            Place::Waits
        } else if fastest > left {
            Place::TooLate(wait + fastest)
        } else if inflight < 2 * tuner.runs() {
            Place::Alone
        } else if wait + fastest <= left {
            Place::Waits
        } else {
            Place::TooLate(wait + fastest)
        }
    }

    /// How long a request would wait for its run, and how long that would take.
    fn estimate(&self, bucket: &Bucket, request: &Request<T>, now: Micros) -> (Micros, Micros) {
        let tuner = &self.tuners[bucket.tuner];
        let expected = |rows| tuner.expected(self.settings.filled(rows)).unwrap_or(0);
        let returns = self.runs.iter().filter_map(|(_, run)| {
            let ours = run.bucket.is_none_or(|at| self.buckets[at as usize].key == bucket.key);
            let started = run.started.filter(|_| ours)?;
            Some((started + expected(run.rows)).saturating_sub(now))
        });
        let next = if bucket.runs + self.alone < tuner.runs() { 0 } else { returns.min().unwrap_or(0) };
        let most = tuner.rows().max(1);
        let ahead = self.waiting.ahead(&bucket.lane, request.peer, request.rows);
        let between = expected(most) / tuner.runs() as Micros;
        let rows = (ahead % most + request.rows).min(most).max(request.rows);
        (next + ahead / most * between, expected(rows))
    }

    /// When the queue will have room again.
    pub(super) fn retry(&self, at: u32) -> Micros {
        let tuner = &self.tuners[self.buckets[at as usize].tuner];
        let Some(run) = tuner.expected(tuner.rows()) else { return UNKNOWN_RETRY };
        let runs = self.rows().div_ceil(tuner.rows().max(1));
        (run * runs / tuner.runs() as Micros).max(1)
    }

    /// Makes room for a request at the cost of the client with the longest backlog. `None` if that
    /// is its own client, or would be afterwards.
    pub(super) fn make_room(&mut self, request: &Request<T>, now: Micros) -> Option<Vec<Request<T>>> {
        let mut displaced = Vec::new();
        while !self.waiting.is_empty() && self.rows() + request.rows > self.settings.max_queue_rows {
            let excess = self.rows() + request.rows - self.settings.max_queue_rows;
            let more = if displaced.is_empty() { excess + request.rows } else { 0 };
            let (at, bucket) = self.waiting.newest_of_longest(request.peer, more)?;
            displaced.extend(self.remove(at, bucket, now));
        }
        Some(displaced)
    }

    pub(super) fn remove(&mut self, at: u32, bucket: u32, now: Micros) -> Option<Request<T>> {
        let found = &mut self.buckets[bucket as usize];
        let node = self.waiting.remove(&mut found.lane, at)?;
        self.tuners[found.tuner].left(1, now);
        self.refresh(bucket, now);
        Some(node.request)
    }

    /// The bucket with that key.
    pub(super) fn bucket(&mut self, key: u128, now: Micros) -> u32 {
        let at = match self.by_key.get(&key) {
            Some(at) => *at,
            None => {
                self.purge();
                if self.main_taken {
                    self.main = self.tuners.insert(Tuner::new(&self.settings, &self.learned()));
                }
                self.main_taken = true;
                let at = self.buckets.insert(Bucket::new(key, self.main)) as u32;
                self.by_key.insert(key, at);
                at
            }
        };
        let bucket = &mut self.buckets[at as usize];
        bucket.used = now;
        self.main = bucket.tuner;
        at
    }

    /// Forgets the buckets that have been idle for longest, if there are many.
    fn purge(&mut self) {
        if self.by_key.len() < self.purge_at {
            return;
        }
        let (runs, main) = (&self.runs, self.main);
        let used = |tuner| tuner == main || runs.iter().any(|(_, run)| run.tuner == tuner);
        let idle = self.buckets.iter().filter(|(_, bucket)| bucket.is_idle() && !used(bucket.tuner));
        let mut idle: Vec<(Micros, usize)> = idle.map(|(at, bucket)| (bucket.used, at)).collect();
        idle.sort_unstable();
        idle.truncate(idle.len() - idle.len().min(MAX_BUCKETS / 2));
        for (_, at) in idle {
            let mut bucket = self.buckets.remove(at);
            self.waiting.forget(&mut bucket.lane);
            self.tuners.remove(bucket.tuner);
            self.by_key.remove(&bucket.key);
        }
        self.purge_at = (2 * self.by_key.len()).max(MAX_BUCKETS);
    }

    pub(super) fn refresh_all(&mut self, now: Micros) {
        if self.waiting.is_empty() {
            return;
        }
        let all: Vec<u32> = self.buckets.iter().map(|(at, _)| at as u32).collect();
        for at in all {
            self.refresh(at, now);
        }
    }

    /// A run was answered. The requests that wait, and the first of its clients that come back, may
    /// wait for its other clients, if that was found to pay. A client that was alone in its run
    /// waits for nobody.
    pub(super) fn linger(&mut self, run: &Run, now: Micros) {
        if self.max_delay > 0 || (self.waiting.is_empty() && run.requests < 2) {
            return;
        }
        // A run without a key was one of the only key.
        let only = || self.by_key.values().next().copied().filter(|_| self.by_key.len() == 1);
        let Some(at) = run.bucket.or_else(only) else { return };
        let bucket = &mut self.buckets[at as usize];
        // One client in turn with another one has nobody else to wait for.
        if run.requests < 2 && bucket.lane.rows + run.own <= 2 {
            return;
        }
        let Some(limit) = self.tuners[bucket.tuner].linger(run.own) else { return };
        // Those that would wait if each client that was answered sent as many again.
        let rows = bucket.lane.rows + run.own;
        bucket.linger = Some(Linger { rows, until: now + limit });
        self.lingers_until = now + limit;
    }

    /// Brings up to date whether a bucket may start a run.
    pub(super) fn refresh(&mut self, at: u32, now: Micros) {
        let bucket = &mut self.buckets[at as usize];
        let tuner = &self.tuners[bucket.tuner];
        let (lane, most) = (&mut bucket.lane, tuner.rows());
        let oldest = self.waiting.oldest(lane).map(|node| (node.came, node.seq));
        let wanted = bucket.reserved as u64 * most < lane.rows;
        let inflight = bucket.runs + self.alone;
        let free = self.draining
            || (inflight < tuner.runs()
                && !tuner.holds(lane.rows, bucket.flying + self.flying_alone, inflight));
        let (mut ready, mut due) = (None, None);
        match oldest {
            Some((came, seq)) if wanted && free => {
                let expected = || tuner.expected(self.settings.filled(lane.rows)).unwrap_or(0);
                let delay = came + self.max_delay;
                bucket.linger = bucket.linger.filter(|linger| now < linger.until && lane.rows < linger.rows);
                let delay = bucket.linger.map_or(delay, |linger| linger.until.max(delay));
                let urgent = bucket.urgent.filter(|_| delay > now);
                let urgent = urgent.map(|deadline| deadline.saturating_sub(expected()));
                bucket.urged = urgent.is_some_and(|urgent| urgent < delay);
                bucket.full = lane.rows >= most;
                let time =
                    if self.draining || bucket.full { now } else { urgent.unwrap_or(delay).min(delay) };
                if time <= now {
                    ready = self.waiting.head(lane).map(|(tag, _)| (tag, seq, at));
                } else {
                    due = Some((time, at));
                }
            }
            Some(_) => bucket.blocked |= wanted,
            None => bucket.blocked = false,
        }
        bucket.delays = self.max_delay > 0;
        if ready != bucket.ready {
            if let Some(before) = bucket.ready.take() {
                self.ready.remove(&before);
            }
            self.ready.extend(ready);
            bucket.ready = ready;
        }
        if due != bucket.due {
            if let Some(before) = bucket.due.take() {
                self.delayed.remove(&before);
            }
            self.delayed.extend(due);
            bucket.due = due;
        }
    }
}
