//! What the requests of a window of time got: answers by the time that requests were in the system.
use crate::concurrency::Micros;

/// A window has at least so many runs, or so many times those in flight.
const MIN_RUNS: u32 = 8;
const ROUNDS: u32 = 4;
/// It is looked at once before, after this part.
const GLIMPSE: u32 = 4;
/// And so many requests, which is no more than that for small runs.
const MIN_REQUESTS: u32 = 16;

/// Requests follow the answers if so many of them come soon after a run.
const FOLLOW: (u32, u32) = (3, 4);

/// The runs since the setting was changed.
#[derive(Debug)]
pub(super) struct Window {
    /// When it began; `None` as long as runs with an earlier setting are in flight.
    since: Option<Micros>,
    /// So many runs more are not counted: the requests in the system get used to the setting.
    settle: usize,
    /// Requests that wait or run, and the time that they did, summed since `since`.
    inside: u64,
    peak: u64,
    integral: u64,
    last: Micros,
    /// Requests that came, and those of them that came soon after a run was answered.
    came: u32,
    soon: u32,
    soon_until: Micros,
    runs: u32,
    requests: u32,
    rows: u64,
    largest: u64,
    /// Runs whose requests had to wait for a run, and runs that left requests behind.
    formed: u32,
    blocked: u32,
    capped: u32,
}

/// What a window has found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measure {
    /// Logarithm of the answers by the time that requests were in the system: one by the mean
    /// latency. With a number of clients that wait for their answers it rises with the answers a
    /// second, by Little's law.
    pub(super) speed: f64,
    /// Logarithm of the answers by time.
    pub(super) rate: f64,
    /// Requests were left behind by nearly every run: the rate says more than the latency.
    pub(super) saturated: bool,
    pub(super) blocked: bool,
    pub(super) capped: bool,
    /// Most requests came soon after a run was answered, as those of clients do that wait for their
    /// answers.
    pub(super) follow: bool,
    /// The most rows of a run.
    pub(super) largest: u64,
    /// The most requests in the system at once.
    pub(super) peak: u64,
}

impl Window {
    pub(super) fn started() -> Self {
        Self { since: Some(0), ..Self::new() }
    }

    fn new() -> Self {
        Self {
            since: None,
            settle: 0,
            inside: 0,
            peak: 0,
            integral: 0,
            last: 0,
            came: 0,
            soon: 0,
            soon_until: 0,
            runs: 0,
            requests: 0,
            rows: 0,
            largest: 0,
            formed: 0,
            blocked: 0,
            capped: 0,
        }
    }

    /// Forgets everything until [`Window::begin`].
    pub(super) fn close(&mut self, now: Micros) {
        let Self { inside, soon_until, .. } = *self;
        *self = Self { inside, peak: inside, last: now, soon_until, ..Self::new() };
    }

    pub(super) fn begin(&mut self, settle: usize, now: Micros) {
        self.close(now);
        (self.since, self.settle) = (Some(now), settle);
    }

    /// A request came.
    pub(super) fn came(&mut self, now: Micros) {
        self.came += 1;
        self.soon += u32::from(now <= self.soon_until);
        self.inside(1, now);
    }

    /// A run was answered; what comes until then comes soon after it.
    pub(super) fn returned(&mut self, soon_until: Micros) {
        self.soon_until = soon_until;
    }

    pub(super) fn inside(&mut self, change: i64, now: Micros) {
        self.integral += self.inside * now.saturating_sub(self.last);
        self.last = now;
        self.inside = self.inside.saturating_add_signed(change);
        self.peak = self.peak.max(self.inside);
    }

    /// The most requests that were in the system at once; 0 until they are used to the setting.
    pub(super) fn peak(&self) -> u64 {
        if self.since.is_some() && self.settle == 0 { self.peak } else { 0 }
    }

    pub(super) fn formed(&mut self, blocked: bool, capped: bool) {
        self.formed += 1;
        self.blocked += u32::from(blocked);
        self.capped += u32::from(capped);
    }

    /// A run was answered. Returns the measure at the end of a window that is `length` times as
    /// long as the shortest, and once before; true if it is the end.
    pub(super) fn answered(
        &mut self,
        requests: u32,
        rows: u64,
        runs: usize,
        length: u32,
        now: Micros,
    ) -> Option<(Measure, bool)> {
        let since = self.since?;
        if self.settle > 0 {
            self.begin(self.settle - 1, now);
            return None;
        }
        self.runs += 1;
        self.requests += requests;
        self.rows += rows;
        self.largest = self.largest.max(rows);
        let wanted = MIN_RUNS.max(ROUNDS * runs as u32) * length;
        if now <= since {
            return None;
        }
        if self.runs < wanted || self.requests < MIN_REQUESTS * length {
            return (self.runs == wanted / GLIMPSE).then(|| (self.measure(since, now), false));
        }
        let measure = self.measure(since, now);
        self.begin(0, now);
        Some((measure, true))
    }

    fn measure(&self, since: Micros, now: Micros) -> Measure {
        let requests = f64::from(self.requests);
        Measure {
            speed: (requests / self.integral.max(1) as f64).ln(),
            rate: (requests / (now - since) as f64).ln(),
            saturated: self.capped * 8 >= self.formed * 7,
            blocked: self.blocked * 16 >= self.formed.max(1),
            capped: self.capped * 16 >= self.formed.max(1),
            follow: self.soon * FOLLOW.1 >= self.came * FOLLOW.0,
            largest: self.largest,
            peak: self.peak,
        }
    }
}
