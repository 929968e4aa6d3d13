//! The search for the limit with the most answers per second.
//!
//! It rests at a limit, and from time to time compares it with another one, in alternating windows:
//! what changes the rate for other reasons then changes both. The other limit is taken if its rate
//! is better by more than the noise. After a success the next step in that direction is larger;
//! after failures the search rests longer.
//!
//! Equal rates prefer the lower limit: a step up must gain some part of what it could gain, and a
//! step down may lose as much.
use super::window::Measure;

/// The search never goes below this, unless the maximum is lower: it is what a server with four
/// threads, those of one core, does best with. A disturbance must not take the limit to where
/// nothing can be measured. Withheld permits keep servers with fewer threads from refusing much.
const MIN_LIMIT: usize = 3;
/// More refusals than this share end a step up, and lower the limit.
pub(super) const MAX_SHARE: f64 = 0.08;
/// What chance may add to it, times the error of a window: half a standard deviation more than one.
const CHANCE: f64 = 0.45;
/// A step by the factor `f` must gain this times `ln f` in the logarithm of the rate.
const UP_GAIN: f64 = 0.06;
const DOWN_LOSS: f64 = 0.03;
/// Standard errors by which a difference must exceed that to be believed early.
const CERTAIN: f64 = 2.0;
/// Comparisons of one candidate before the mean decides.
const MAX_PAIRS: u32 = 6;
/// Windows of rest after a comparison that changed nothing.
const MIN_REST: u32 = 1;
const MAX_REST: u32 = 24;
/// The first and the largest step: by these parts of the limit.
const STEPS: [f64; 3] = [0.125, 0.5, 0.25];
const MAX_STEP: f64 = 1.0;
/// A rate that is off by so many standard deviations while resting starts the search again.
const SURPRISE: f64 = 5.0;
/// The relative noise of a window is assumed to be between these.
const MIN_NOISE: f64 = 0.005;
const MAX_NOISE: f64 = 0.2;

#[derive(Debug)]
pub(super) struct Search {
    center: usize,
    max: usize,
    phase: Phase,
    /// The last step in logarithmic scale was up.
    up: bool,
    step: f64,
    /// The last step but those that were too large succeeded.
    moving: bool,
    /// Comparisons in a row that changed nothing.
    failures: u32,
    rest: u32,
    /// Variance of the logarithm of a window's rate around the one before it.
    noise: Option<f64>,
    /// The mean rate while resting, as a logarithm.
    usual: Option<f64>,
}

#[derive(Debug)]
enum Phase {
    /// At the center, for so many windows more.
    Rest { left: u32 },
    /// Comparing the center with a candidate.
    Compare(Compare),
}

#[derive(Debug)]
struct Compare {
    candidate: usize,
    /// The logarithm of the center's rate before the candidate's window.
    before: f64,
    /// That of the candidate, once measured; then the center is measured again.
    there: Option<f64>,
    pairs: u32,
    sum: f64,
}

impl Search {
    pub(super) fn new(center: usize, max: usize) -> Self {
        Self {
            center,
            max,
            phase: Phase::Rest { left: 0 },
            up: true,
            step: MAX_STEP,
            moving: true,
            failures: 0,
            rest: MIN_REST,
            noise: None,
            usual: None,
        }
    }

    /// Changes the highest limit.
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
        self.center = self.center.min(max);
        if self.limit() > max {
            self.phase = Phase::Rest { left: 0 };
        }
    }

    pub(super) fn limit(&self) -> usize {
        match &self.phase {
            Phase::Compare(Compare { candidate, there: None, .. }) => *candidate,
            Phase::Rest { .. } | Phase::Compare(_) => self.center,
        }
    }

    /// Whether a higher limit than the center is being measured.
    pub(super) fn tries_more(&self) -> bool {
        self.limit() > self.center
    }

    /// Slow calls hold every permit.
    pub(super) fn raise(&mut self) {
        let next = (self.center + (self.center / 4).max(1)).min(self.max);
        self.move_to(next, true, self.step);
    }

    /// A window has ended at the present limit.
    pub(super) fn judge(&mut self, measure: Measure) {
        if measure.share > MAX_SHARE + measure.error * CHANCE && self.limit() > self.least() {
            return self.too_many(measure.share);
        }
        if measure.cut_short {
            return;
        }
        let rate = measure.rate.max(1e-3).ln();
        match &mut self.phase {
            Phase::Rest { left } => {
                let left = *left;
                self.rested(left, rate, measure.error);
            }
            Phase::Compare(compare) => match compare.there {
                None => {
                    compare.there = Some(rate);
                    self.judge_first(rate);
                }
                Some(there) => {
                    let between = f64::midpoint(compare.before, rate);
                    compare.pairs += 1;
                    compare.sum += there - between;
                    let drift = rate - compare.before;
                    compare.before = rate;
                    compare.there = None;
                    self.observe_noise(drift);
                    self.judge_pairs(rate);
                }
            },
        }
    }

    fn least(&self) -> usize {
        MIN_LIMIT.min(self.max)
    }

    /// The server refuses more than it should.
    fn too_many(&mut self, share: f64) {
        if let Phase::Compare(compare) = &self.phase
            && compare.there.is_none()
            && compare.candidate > self.center
        {
            return self.failed();
        }
        let kept = (1.0 - share).max(0.5);
        let next = ((self.center as f64 * kept).ceil() as usize).min(self.center - 1).max(self.least());
        self.move_to(next, true, STEPS[2]);
    }

    fn rested(&mut self, left: u32, rate: f64, error: f64) {
        let noise = self.deviation(error);
        if let Some(usual) = self.usual {
            let off = rate - usual;
            if off.abs() > (SURPRISE * noise).max(0.2) {
                // Something has changed, for example other users of the threads.
                self.usual = Some(rate);
                self.failures = 0;
                self.rest = MIN_REST;
                self.up = true;
                self.moving = true;
                self.step = STEPS[1];
                self.phase = Phase::Rest { left: 0 };
                return;
            }
            self.observe_noise(off);
            self.usual = Some(usual + 0.25 * off);
        } else {
            self.usual = Some(rate);
        }
        if left > 0 {
            self.phase = Phase::Rest { left: left - 1 };
            return;
        }
        self.start(rate);
    }

    /// Begins to compare with the next candidate.
    fn start(&mut self, rate: f64) {
        let candidate = self.candidate(self.up).or_else(|| {
            self.up = !self.up;
            self.candidate(self.up)
        });
        match candidate {
            Some(candidate) => {
                self.phase =
                    Phase::Compare(Compare { candidate, before: rate, there: None, pairs: 0, sum: 0.0 });
            }
            None => self.phase = Phase::Rest { left: MAX_REST },
        }
    }

    fn candidate(&self, up: bool) -> Option<usize> {
        let center = self.center as f64;
        let next = if up {
            (self.center + 1).max((center * (1.0 + self.step)).round() as usize).min(self.max)
        } else {
            (self.center - 1).min((center / (1.0 + self.step)).round() as usize).max(self.least())
        };
        (if up { next > self.center } else { next < self.center }).then_some(next)
    }

    /// After the candidate's first window: a clear difference needs no second look at the center.
    fn judge_first(&mut self, rate: f64) {
        let Phase::Compare(compare) = &self.phase else { return };
        if compare.pairs > 0 {
            return;
        }
        let (difference, wanted) = (rate - compare.before, self.wanted(compare.candidate));
        let doubt = (CERTAIN * self.deviation(0.0) * 2.0_f64.sqrt()).max(0.05);
        if difference - wanted > 2.0 * doubt {
            self.succeeded(rate);
        } else if difference - wanted < -2.0 * doubt {
            self.failed();
        }
    }

    fn judge_pairs(&mut self, rate: f64) {
        let Phase::Compare(compare) = &self.phase else { return };
        let pairs = f64::from(compare.pairs);
        let margin = compare.sum / pairs - self.wanted(compare.candidate);
        let doubt = CERTAIN * self.deviation(0.0) * (1.5 / pairs).sqrt();
        if margin.abs() < doubt && compare.pairs < MAX_PAIRS {
            return;
        }
        // Without certainty the lower limit is preferred.
        let down = compare.candidate < self.center;
        if margin > if down { 0.0 } else { doubt } {
            let there = rate + compare.sum / pairs;
            self.succeeded(there);
        } else {
            self.failed();
        }
    }

    /// What a step to `candidate` must gain; negative for what it may lose.
    fn wanted(&self, candidate: usize) -> f64 {
        let step = (candidate as f64 / self.center as f64).ln();
        step * if step > 0.0 { UP_GAIN } else { DOWN_LOSS }
    }

    fn succeeded(&mut self, rate: f64) {
        let Phase::Compare(compare) = &self.phase else { return };
        let candidate = compare.candidate;
        self.center = candidate;
        self.step = (self.step * 2.0).min(MAX_STEP);
        self.moving = true;
        self.failures = 0;
        self.rest = MIN_REST;
        self.usual = None;
        self.start(rate);
    }

    fn failed(&mut self) {
        if self.moving && self.step > STEPS[0] {
            // The last step succeeded, so a smaller one may too.
            self.step = (self.step / 2.0).max(STEPS[0]);
            self.phase = Phase::Rest { left: 0 };
            return;
        }
        self.moving = false;
        self.failures += 1;
        self.up = !self.up;
        let round = self.failures / 2;
        self.step = STEPS[round as usize % STEPS.len()];
        if self.failures.is_multiple_of(2) {
            self.rest = (self.rest * 2).min(MAX_REST);
        }
        self.phase = Phase::Rest { left: self.rest };
    }

    fn move_to(&mut self, limit: usize, up: bool, step: f64) {
        self.center = limit;
        self.moving = true;
        self.up = up;
        self.step = step;
        self.failures = 0;
        self.rest = MIN_REST;
        self.usual = None;
        self.phase = Phase::Rest { left: 1 };
    }

    fn observe_noise(&mut self, difference: f64) {
        let seen = (difference * difference / 2.0).clamp(MIN_NOISE * MIN_NOISE, MAX_NOISE * MAX_NOISE);
        self.noise = Some(self.noise.map_or(seen, |noise| noise + (seen - noise) / 8.0));
    }

    /// The standard deviation of the logarithm of a window's rate.
    fn deviation(&self, assumed: f64) -> f64 {
        self.noise.map_or(assumed.clamp(0.03, MAX_NOISE), f64::sqrt)
    }
}
