//! How many requests TF Serving should have in flight, learned from what it refuses and how many it
//! answers: pure, time is passed in.
//!
//! A refusal (`Server Threadpool Exhausted`) is the hard signal: of so many in flight one was too
//! much. The limit falls by one for each that is refused out of one round of requests, at most to
//! half; which of a round are refused says nothing, since requests of several connections overtake
//! each other. Otherwise the limit moves only by trial while requests wait for a place: a step is
//! kept when the answers of a window come faster with it, and taken back when not. Latency is no
//! signal: it differs by model and by size far more than by load.
//!
//! When requests wait and no answer comes for much longer than usual, slow requests hold every
//! place: then the limit rises as far as it may, so that what TF Serving could take meanwhile does
//! not wait for them.
//!
//! Nobody need tell a limit anything while nothing waits: then it is no constraint and there is
//! nothing to learn.
#[cfg(test)]
mod tests;

/// Microseconds of a clock that never goes back.
pub type Micros = u64;

/// Where learning begins: four threads a core are TF Serving's default, on a machine that is not
/// known here.
pub const START: usize = 16;

/// A window has at least this length and so many answers, or two rounds of them.
const WINDOW: Micros = 50_000;
const WINDOW_ANSWERS: usize = 32;
/// A window in which nothing waited for more than one part in this many says nothing about the
/// limit.
const IDLE_PART: Micros = 8;
/// Doubling goes on while it brings this much.
const DOUBLING_GAIN: f64 = 1.15;
/// A smaller step up is kept for this part of what it could bring.
const STEP_GAIN: f64 = 0.4;
/// A step down is kept when fewer in flight are answered faster.
const DOWN_GAIN: f64 = 1.03;
/// Windows between two trials; each fourth trial goes down.
const BETWEEN: u32 = 8;
const DOWN_EACH: u32 = 4;
/// How long a number that was refused is not tried again: at first, and when it was refused again
/// and again.
const PATIENCE: Micros = 5_000_000;
const MAX_PATIENCE: Micros = 80_000_000;
/// After so long without anybody waiting, the pace of earlier answers is no forecast any more.
const STALE: Micros = 1_000_000;
/// Nothing answered for so long, and for so many times the usual, while requests wait: slow ones
/// hold the places.
pub const STUCK: Micros = 250_000;
const STUCK_TIMES: Micros = 32;
/// Answers until the pace is a forecast, and until older ones count half.
const MIN_PACE: u32 = 8;
const PACE_HALF: u32 = 64;

/// The learned (or fixed) limit.
#[derive(Debug)]
pub struct AdaptiveLimit {
    current: usize,
    max: usize,
    fixed: bool,
    /// Counts the falls: what was sent before the last one belongs to it.
    epoch: u32,
    phase: Phase,
    fall: Option<Fall>,
    refused: Option<Refused>,
    patience: Micros,
    trials: u32,
    window: Window,
    pace: Pace,
    /// The last answer while requests waited, or what counts as one.
    moved: Micros,
}

/// What is known of a request that was sent: a refusal is judged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sent {
    /// In flight, itself among them: when it was sent or when it came back, whichever was more.
    pub inflight: usize,
    pub epoch: u32,
}

#[derive(Debug)]
enum Phase {
    /// Doubling, from what brought this many answers a second.
    Doubling {
        from: Option<(usize, f64)>,
    },
    Steady {
        rate: Option<f64>,
        windows: u32,
    },
    /// Another limit for one window, against `rate` at `from`.
    Trial {
        from: usize,
        rate: f64,
    },
}

/// The limit falls: more refusals of the same round may be on their way.
#[derive(Debug, Clone, Copy)]
struct Fall {
    /// The round: what was sent in it counts.
    epoch: u32,
    least: usize,
}

/// The number in flight that the server did not take.
#[derive(Debug, Clone, Copy)]
struct Refused {
    at: usize,
    until: Micros,
}

#[derive(Debug, Default)]
struct Window {
    /// Answers of requests that were sent under an earlier limit.
    skip: usize,
    since: Option<Micros>,
    answers: usize,
    idle: Micros,
}

/// How fast answers come while requests wait.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Micros>,
    emptied: Option<Micros>,
    sum: Micros,
    count: u32,
}

impl AdaptiveLimit {
    /// Learns between 1 and `most`.
    pub fn learned(max: usize) -> Self {
        let max = max.max(1);
        Self::new(START.min(max), max, false)
    }

    /// Stays at `limit`.
    pub fn fixed(limit: usize) -> Self {
        Self::new(limit.max(1), limit.max(1), true)
    }

    fn new(limit: usize, max: usize, fixed: bool) -> Self {
        Self {
            current: limit,
            max,
            fixed,
            epoch: 0,
            phase: Phase::Doubling { from: None },
            fall: None,
            refused: None,
            patience: PATIENCE,
            trials: 0,
            window: Window { skip: limit, ..Window::default() },
            pace: Pace::default(),
            moved: 0,
        }
    }

    pub fn limit(&self) -> usize {
        self.current
    }

    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// How long the request behind `ahead` others will wait; `None` when too little is known.
    pub fn wait(&self, ahead: usize) -> Option<Micros> {
        let pace = &self.pace;
        (pace.count >= MIN_PACE).then(|| pace.sum / Micros::from(pace.count) * (ahead as Micros + 1))
    }

    /// A request waits, and none did before.
    pub fn waits(&mut self, now: Micros) {
        self.moved = now;
        let Some(emptied) = self.pace.emptied.take() else { return };
        let idle = now.saturating_sub(emptied);
        self.window.idle += idle;
        if idle > STALE {
            self.pace = Pace::default();
        }
    }

    /// Nothing waits any more.
    pub fn emptied(&mut self, now: Micros) {
        self.pace.emptied = Some(now);
        self.pace.last = None;
    }

    /// A request was answered while others waited.
    pub fn answered(&mut self, now: Micros) {
        self.pace.answered(now);
        self.moved = now;
        if self.fixed {
            return;
        }
        let window = &mut self.window;
        let Some(since) = window.since else {
            window.skip = window.skip.saturating_sub(1);
            if window.skip == 0 {
                *window = Window { since: Some(now), ..Window::default() };
            }
            return;
        };
        window.answers += 1;
        let length = now.saturating_sub(since);
        if length < WINDOW || window.answers < WINDOW_ANSWERS.max(2 * self.current) {
            return;
        }
        let (answers, busy) = (window.answers, window.idle <= length / IDLE_PART);
        *window = Window { since: Some(now), ..Window::default() };
        if busy {
            self.judge(answers as f64 * 1e6 / length as f64, now);
        }
    }

    /// Requests have been waiting for a while: to be called every [`STUCK`] or so.
    pub fn waiting(&mut self, now: Micros) {
        let usual = self.wait(0).unwrap_or(0);
        if self.fixed || now.saturating_sub(self.moved) < STUCK.max(STUCK_TIMES * usual) {
            return;
        }
        self.moved = now;
        let next = self.room(self.current + (self.current / 4).max(1), now);
        if next > self.current {
            self.phase = Phase::Steady { rate: None, windows: 0 };
            self.set(next);
        }
    }

    /// The server refused a request before running it, because it had too many.
    pub fn refused(&mut self, sent: Sent, now: Micros) {
        if self.fixed {
            return;
        }
        if sent.epoch != self.epoch {
            // One more of a round that was too large.
            if self.fall.is_some_and(|fall| fall.epoch == sent.epoch && fall.least < self.current) {
                self.fell(self.current, now);
            }
            return;
        }
        let at = sent.inflight.min(self.current);
        let again = self.refused.is_some_and(|refused| at >= refused.at);
        self.patience = if again { (self.patience * 2).min(MAX_PATIENCE) } else { PATIENCE };
        let trial = match self.phase {
            Phase::Trial { from, .. } if from < at => Some(from),
            Phase::Doubling { .. } | Phase::Steady { .. } | Phase::Trial { .. } => None,
        };
        self.fall = trial.is_none().then_some(Fall { epoch: self.epoch, least: (at / 2).max(1) });
        self.epoch = self.epoch.wrapping_add(1);
        self.phase = Phase::Steady { rate: None, windows: 0 };
        self.fell(at, now);
        // A trial that failed goes back to where it began.
        if let Some(from) = trial {
            self.set(from);
        }
    }

    /// So many were one too many.
    fn fell(&mut self, at: usize, now: Micros) {
        self.refused = Some(Refused { at, until: now + self.patience });
        self.set((at - 1).max(1));
    }

    /// A window with waiting requests has ended.
    fn judge(&mut self, rate: f64, now: Micros) {
        match self.phase {
            Phase::Doubling { from: Some((from, before)) } if rate < before * DOUBLING_GAIN => {
                self.phase = Phase::Steady { rate: None, windows: 0 };
                self.set(from);
            }
            Phase::Doubling { .. } => self.double(rate, now),
            Phase::Steady { rate: Some(before), windows } if windows >= BETWEEN => {
                self.attempt(f64::midpoint(before, rate), now);
            }
            Phase::Steady { windows, .. } => {
                self.phase = Phase::Steady { rate: Some(rate), windows: windows + 1 };
            }
            Phase::Trial { from, rate: before } => {
                let step = self.current as f64 / from as f64 - 1.0;
                let up = step > 0.0;
                let wanted = if up { 1.0 + STEP_GAIN * step } else { DOWN_GAIN };
                if up && self.refused.is_some_and(|refused| self.current >= refused.at) {
                    // A whole window at what was refused: the server has changed.
                    self.refused = None;
                    self.patience = PATIENCE;
                }
                if rate < before * wanted {
                    self.phase = Phase::Steady { rate: None, windows: 0 };
                    self.set(from);
                } else if up {
                    self.double(rate, now);
                } else {
                    // Fewer were better: perhaps still fewer are.
                    self.trials = DOWN_EACH - 1;
                    self.phase = Phase::Steady { rate: Some(rate), windows: BETWEEN };
                }
            }
        }
    }

    fn double(&mut self, rate: f64, now: Micros) {
        let next = self.room(self.current * 2, now);
        if next <= self.current {
            self.phase = Phase::Steady { rate: Some(rate), windows: 0 };
            return;
        }
        self.phase = Phase::Doubling { from: Some((self.current, rate)) };
        self.set(next);
    }

    /// Another limit for a window: usually higher, sometimes lower.
    fn attempt(&mut self, rate: f64, now: Micros) {
        self.trials = self.trials.wrapping_add(1);
        let from = self.current;
        let up = self.room(from + (from / 4).max(1), now);
        let next =
            if self.trials.is_multiple_of(DOWN_EACH) { from - (from / 4).max(1).min(from - 1) } else { up };
        if next == from {
            self.phase = Phase::Steady { rate: Some(rate), windows: 0 };
            return;
        }
        self.phase = Phase::Trial { from, rate };
        self.set(next);
    }

    /// As much of `wanted` as may be tried now: below what was refused lately, and that number
    /// itself when the patience is over.
    fn room(&self, wanted: usize, now: Micros) -> usize {
        let max = match self.refused {
            Some(refused) if now < refused.until => refused.at - 1,
            Some(refused) => refused.at,
            None => self.max,
        };
        wanted.min(max.max(self.current)).min(self.max)
    }

    fn set(&mut self, limit: usize) {
        self.current = limit;
        self.window = Window { skip: limit, ..Window::default() };
    }
}

impl Pace {
    fn answered(&mut self, now: Micros) {
        if let Some(last) = self.last.replace(now) {
            self.sum += now.saturating_sub(last);
            self.count += 1;
            if self.count >= PACE_HALF {
                self.sum /= 2;
                self.count /= 2;
            }
        }
    }
}
