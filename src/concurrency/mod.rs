//! The adaptive concurrency limit: how many calls TF Serving should have in flight, learned from
//! what it refuses and how fast it answers. Pure: time is passed in.
//!
//! A refusal (`Server Threadpool Exhausted`) is the strong signal: one of the calls in flight was
//! too many. Each refusal in a round of calls lowers the limit by one, all of them together at most
//! to half. Which calls of a round are refused says nothing, since calls on several connections
//! overtake each other.
//!
//! Otherwise the limit is changed only by trial, while requests wait for a permit. A step is kept
//! if more requests are answered per second with it, and undone if not. Latency is not used as a
//! signal: it depends far more on the model and the size of the request than on the load.
//!
//! If requests wait and no answer comes for much longer than usual, slow calls hold every permit.
//! Then the limit is raised as far as allowed, so that the requests TF Serving could run now do not
//! wait for the slow ones.
//!
//! While nothing waits the limit constrains nobody and there is nothing to learn, so it need not be
//! told about those calls.
#[cfg(test)]
mod tests;
mod window;

use window::{Pace, Window};

/// Microseconds of a monotonic clock.
pub(crate) type Micros = u64;

/// The initial limit. TF Serving runs four threads per core by default, on a machine whose size is
/// not known here.
pub(crate) const START: usize = 16;

/// Doubling goes on while it gains this factor.
const DOUBLING_GAIN: f64 = 1.15;
/// A smaller step up is kept if it gains this part of what it could gain.
const STEP_GAIN: f64 = 0.4;
/// A step down is kept if it gains this factor.
const DOWN_GAIN: f64 = 1.03;
/// Windows between two trials. Every fourth trial goes down.
const WINDOWS_BETWEEN_TRIALS: u32 = 8;
const DOWN_TRIAL_EVERY: u32 = 4;
/// A refused number of calls is not tried again for so long; longer each time it is refused again.
const COOLDOWN: Micros = 5_000_000;
const MAX_COOLDOWN: Micros = 80_000_000;
/// Slow calls hold every permit if requests wait and nothing was answered for so long, and for so
/// many times the usual interval.
pub(crate) const STUCK: Micros = 250_000;
const STUCK_INTERVALS: u64 = 32;

/// The limit: adaptive or fixed.
#[derive(Debug)]
pub(crate) struct AdaptiveLimit {
    current: usize,
    max: usize,
    fixed: bool,
    /// Counts the decreases, so that a refusal can be matched to the limit it was sent under.
    epoch: u32,
    phase: Phase,
    decrease: Option<Decrease>,
    refused: Option<Refused>,
    cooldown: Micros,
    trials: u32,
    window: Window,
    pace: Pace,
    /// When a call was last answered while requests waited, or when the wait began.
    progress: Micros,
}

/// What was known when a call was sent; a refusal is judged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sent {
    /// Calls in flight including this one: when it was sent or when it was refused, whichever is
    /// more.
    pub(crate) inflight: usize,
    pub(crate) epoch: u32,
}

#[derive(Debug)]
enum Phase {
    /// Doubling, compared with the rate at an earlier limit.
    Doubling {
        from: Option<(usize, f64)>,
    },
    Steady {
        rate: Option<f64>,
        windows: u32,
    },
    /// Another limit for one window, compared with `rate` at `from`.
    Trial {
        from: usize,
        rate: f64,
    },
}

/// A decrease that may go on: more refusals of the same round may be on their way.
#[derive(Debug, Clone, Copy)]
struct Decrease {
    /// Calls that were sent in this epoch belong to the round.
    epoch: u32,
    min: usize,
}

/// The number of calls in flight that the server did not accept.
#[derive(Debug, Clone, Copy)]
struct Refused {
    at: usize,
    until: Micros,
}

impl AdaptiveLimit {
    /// Adapts between 1 and `max`.
    pub(crate) fn adaptive(max: usize) -> Self {
        let max = max.max(1);
        Self::new(START.min(max), max, false)
    }

    /// Stays at `limit`.
    pub(crate) fn fixed(limit: usize) -> Self {
        Self::new(limit.max(1), limit.max(1), true)
    }

    fn new(limit: usize, max: usize, fixed: bool) -> Self {
        Self {
            current: limit,
            max,
            fixed,
            epoch: 0,
            phase: Phase::Doubling { from: None },
            decrease: None,
            refused: None,
            cooldown: COOLDOWN,
            trials: 0,
            window: Window::after(limit),
            pace: Pace::default(),
            progress: 0,
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.current
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// How long a request with `ahead` others before it will wait; `None` when too little is known.
    pub(crate) fn estimated_wait(&self, ahead: usize) -> Option<Micros> {
        self.pace.per_request().map(|interval| interval * (ahead as Micros + 1))
    }

    /// A request waits and none did before.
    pub(crate) fn queue_filled(&mut self, now: Micros) {
        self.progress = now;
        let idle = self.pace.queue_filled(now);
        self.window.idle(idle);
    }

    /// Nothing waits any more.
    pub(crate) fn queue_emptied(&mut self, now: Micros) {
        self.pace.queue_emptied(now);
    }

    /// A call was answered while requests waited; so many requests shared it.
    pub(crate) fn answered(&mut self, requests: u32, now: Micros) {
        self.pace.answered(requests, now);
        self.progress = now;
        if self.fixed {
            return;
        }
        if let Some(rate) = self.window.answered(requests, self.current, now) {
            self.judge(rate, now);
        }
    }

    /// Raises the limit if slow calls hold every permit. To be called about every [`STUCK`] while
    /// requests wait.
    pub(crate) fn raise_if_stuck(&mut self, now: Micros) {
        let usual = self.estimated_wait(0).unwrap_or(0);
        if self.fixed || now.saturating_sub(self.progress) < STUCK.max(STUCK_INTERVALS * usual) {
            return;
        }
        self.progress = now;
        let next = self.allowed(self.current + (self.current / 4).max(1), now);
        if next > self.current {
            self.phase = Phase::Steady { rate: None, windows: 0 };
            self.set(next);
        }
    }

    /// The server refused a call before running it, because it had too many.
    pub(crate) fn refused(&mut self, sent: Sent, now: Micros) {
        if self.fixed {
            return;
        }
        if sent.epoch != self.epoch {
            // One more of a round that was too large.
            if self.decrease.is_some_and(|round| round.epoch == sent.epoch && round.min < self.current) {
                self.set_below(self.current, now);
            }
            return;
        }
        let at = sent.inflight.min(self.current);
        let again = self.refused.is_some_and(|refused| at >= refused.at);
        self.cooldown = if again { (self.cooldown * 2).min(MAX_COOLDOWN) } else { COOLDOWN };
        let trial = match self.phase {
            Phase::Trial { from, .. } if from < at => Some(from),
            Phase::Doubling { .. } | Phase::Steady { .. } | Phase::Trial { .. } => None,
        };
        self.decrease = trial.is_none().then_some(Decrease { epoch: self.epoch, min: (at / 2).max(1) });
        self.epoch = self.epoch.wrapping_add(1);
        self.phase = Phase::Steady { rate: None, windows: 0 };
        self.set_below(at, now);
        // A failed trial goes back to where it began.
        if let Some(from) = trial {
            self.set(from);
        }
    }

    /// So many were one too many.
    fn set_below(&mut self, at: usize, now: Micros) {
        self.refused = Some(Refused { at, until: now + self.cooldown });
        self.set((at - 1).max(1));
    }

    /// A window has ended, with so many requests answered per second.
    fn judge(&mut self, rate: f64, now: Micros) {
        match self.phase {
            Phase::Doubling { from: Some((from, before)) } if rate < before * DOUBLING_GAIN => {
                self.phase = Phase::Steady { rate: None, windows: 0 };
                self.set(from);
            }
            Phase::Doubling { .. } => self.double(rate, now),
            Phase::Steady { rate: Some(before), windows } if windows >= WINDOWS_BETWEEN_TRIALS => {
                self.start_trial(f64::midpoint(before, rate), now);
            }
            Phase::Steady { windows, .. } => {
                self.phase = Phase::Steady { rate: Some(rate), windows: windows + 1 };
            }
            Phase::Trial { from, rate: before } => self.judge_trial(from, before, rate, now),
        }
    }

    fn judge_trial(&mut self, from: usize, before: f64, rate: f64, now: Micros) {
        let step = self.current as f64 / from as f64 - 1.0;
        let up = step > 0.0;
        let wanted = if up { 1.0 + STEP_GAIN * step } else { DOWN_GAIN };
        if up && self.refused.is_some_and(|refused| self.current >= refused.at) {
            // A whole window at the number that was refused: the server has changed.
            self.refused = None;
            self.cooldown = COOLDOWN;
        }
        if rate < before * wanted {
            self.phase = Phase::Steady { rate: None, windows: 0 };
            self.set(from);
        } else if up {
            self.double(rate, now);
        } else {
            // Fewer were better, so try still fewer next.
            self.trials = DOWN_TRIAL_EVERY - 1;
            self.phase = Phase::Steady { rate: Some(rate), windows: WINDOWS_BETWEEN_TRIALS };
        }
    }

    fn double(&mut self, rate: f64, now: Micros) {
        let next = self.allowed(self.current * 2, now);
        if next <= self.current {
            self.phase = Phase::Steady { rate: Some(rate), windows: 0 };
            return;
        }
        self.phase = Phase::Doubling { from: Some((self.current, rate)) };
        self.set(next);
    }

    /// Another limit for one window: usually higher, sometimes lower.
    fn start_trial(&mut self, rate: f64, now: Micros) {
        self.trials = self.trials.wrapping_add(1);
        let from = self.current;
        let step = (from / 4).max(1);
        let next = if self.trials.is_multiple_of(DOWN_TRIAL_EVERY) {
            from - step.min(from - 1)
        } else {
            self.allowed(from + step, now)
        };
        if next == from {
            self.phase = Phase::Steady { rate: Some(rate), windows: 0 };
            return;
        }
        self.phase = Phase::Trial { from, rate };
        self.set(next);
    }

    /// As much of `wanted` as may be tried now: less than what was refused, and that number itself
    /// when its cooldown is over. Never less than the current limit.
    fn allowed(&self, wanted: usize, now: Micros) -> usize {
        let max = match self.refused {
            Some(refused) if now < refused.until => refused.at - 1,
            Some(refused) => refused.at,
            None => self.max,
        };
        wanted.min(max.max(self.current)).min(self.max)
    }

    fn set(&mut self, limit: usize) {
        self.current = limit;
        self.window = Window::after(limit);
    }
}
