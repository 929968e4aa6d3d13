//! Measurements while requests wait: the throughput of a window of time, and how fast the queue
//! moves.
use super::Micros;

/// A window is at least this long and has at least so many answers, or two per call in flight.
const MIN_LENGTH: Micros = 50_000;
const MIN_ANSWERS: usize = 32;
/// If nothing waited for more than one part in this many, the window says nothing about the limit.
const MAX_IDLE_PART: Micros = 8;
/// A window ends early after so many refusals, if they are more than one part in so many.
const CUT_REFUSALS: usize = 12;
const CUT_PART: usize = 4;
/// After the queue was empty for so long, earlier answers do not predict the wait any more.
const STALE: Micros = 1_000_000;
/// Answers before the wait can be estimated, and until older ones count half.
const MIN_ESTIMATE: u32 = 8;
const HALF_AFTER: u32 = 64;

/// The answers since the limit was last changed.
#[derive(Debug)]
pub(super) struct Window {
    /// Calls still to end that were sent under an earlier limit.
    skip: usize,
    since: Option<Micros>,
    answers: usize,
    refusals: usize,
    requests: usize,
    idle: Micros,
}

/// What a window has found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measure {
    /// Requests answered per second.
    pub(super) rate: f64,
    /// The part of the calls that were refused.
    pub(super) share: f64,
    /// The relative standard error of the rate if answers came at random.
    pub(super) error: f64,
    /// The window ended early because of its refusals; its rate is not reliable.
    pub(super) cut_short: bool,
}

/// How fast requests leave the queue.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Micros>,
    emptied: Option<Micros>,
    sum: Micros,
    count: u32,
}

impl Window {
    /// A window that begins when the calls now in flight have ended.
    pub(super) fn after(inflight: usize) -> Self {
        Self { skip: inflight, since: None, answers: 0, refusals: 0, requests: 0, idle: 0 }
    }

    fn starting(now: Micros) -> Self {
        Self { since: Some(now), ..Self::after(0) }
    }

    /// For so long nothing waited.
    pub(super) fn idle(&mut self, time: Micros) {
        self.idle += time;
    }

    /// One call was answered, for so many requests. Returns the measure at the end of a window if
    /// enough of the time requests waited, and begins another.
    pub(super) fn answered(&mut self, requests: u32, limit: usize, now: Micros) -> Option<Measure> {
        let since = self.started(now)?;
        self.answers += 1;
        self.requests += requests as usize;
        let length = now.saturating_sub(since);
        if length < MIN_LENGTH || self.answers < MIN_ANSWERS.max(2 * limit) {
            return None;
        }
        let busy = self.idle <= length / MAX_IDLE_PART;
        let measure = self.measure(length, false);
        *self = Self::starting(now);
        busy.then_some(measure)
    }

    /// A call was refused. Returns the measure if the window has too many refusals to go on.
    pub(super) fn refused(&mut self, now: Micros) -> Option<Measure> {
        let since = self.started(now)?;
        self.refusals += 1;
        if self.refusals < CUT_REFUSALS || self.refusals * CUT_PART < self.refusals + self.answers {
            return None;
        }
        let measure = self.measure(now.saturating_sub(since), true);
        *self = Self::starting(now);
        Some(measure)
    }

    /// When the window began. A call has ended; it may be one that was sent before.
    fn started(&mut self, now: Micros) -> Option<Micros> {
        if self.since.is_none() {
            self.skip = self.skip.saturating_sub(1);
            if self.skip == 0 {
                *self = Self::starting(now);
            }
            return None;
        }
        self.since
    }

    fn measure(&self, length: Micros, cut_short: bool) -> Measure {
        Measure {
            rate: self.requests as f64 * 1e6 / length.max(1) as f64,
            share: self.refusals as f64 / (self.refusals + self.answers).max(1) as f64,
            error: 1.0 / (self.answers.max(1) as f64).sqrt(),
            cut_short,
        }
    }
}

impl Pace {
    /// The wait per request in the queue; `None` when too little is known.
    pub(super) fn per_request(&self) -> Option<Micros> {
        (self.count >= MIN_ESTIMATE).then(|| self.sum / Micros::from(self.count))
    }

    /// A request waits and none did before; returns how long that was.
    pub(super) fn queue_filled(&mut self, now: Micros) -> Micros {
        let Some(emptied) = self.emptied.take() else { return 0 };
        let idle = now.saturating_sub(emptied);
        if idle > STALE {
            *self = Self::default();
        }
        idle
    }

    pub(super) fn queue_emptied(&mut self, now: Micros) {
        self.emptied = Some(now);
        self.last = None;
    }

    pub(super) fn answered(&mut self, requests: u32, now: Micros) {
        if let Some(last) = self.last.replace(now) {
            self.sum += now.saturating_sub(last);
            self.count += requests;
            while self.count >= HALF_AFTER {
                self.sum /= 2;
                self.count /= 2;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_estimated_from_recent_answers() {
        let mut pace = Pace::default();
        assert_eq!(pace.queue_filled(0), 0);
        assert_eq!(pace.per_request(), None);
        for answer in 1..100 {
            pace.answered(1, answer * 1_000);
        }
        assert_eq!(pace.per_request(), Some(1_000));
        pace.queue_emptied(100_000);
        assert_eq!(pace.queue_filled(200_000), 100_000);
        assert_eq!(pace.per_request(), Some(1_000));
        pace.queue_emptied(300_000);
        pace.queue_filled(300_000 + STALE + 1);
        assert_eq!(pace.per_request(), None);
    }

    #[test]
    fn a_shared_call_counts_for_all_its_requests() {
        let (mut pace, mut window) = (Pace::default(), Window::after(0));
        let rates: Vec<f64> = (0..100)
            .filter_map(|answer| {
                pace.answered(20, answer * 2_000);
                window.answered(20, 8, answer * 2_000).map(|measure| measure.rate)
            })
            .collect();
        assert_eq!(pace.per_request(), Some(100));
        assert!(!rates.is_empty() && rates.iter().all(|rate| (*rate - 10_000.0).abs() < 1.0), "{rates:?}");
    }
}
