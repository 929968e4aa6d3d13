//! The search for the number of runs in flight and the rows of a run that answer requests soonest.
//!
//! It rests at a setting, and from time to time compares it with another one, in alternating
//! windows: what changes the speed for other reasons then changes both. The other setting is taken
//! if it is better by more than the noise. After a success the same move is tried again; the more
//! comparisons fail, the longer the search rests.
use super::curve::Curve;
use super::window::Measure;
use crate::concurrency::Micros;

/// The setting at the start: one run in flight.
const START: Setting = Setting { runs: 1, rows: 8, wait: Wait::No };
/// More runs in flight are never tried.
const MAX_RUNS: usize = 64;
/// A step by the factor `f` up must gain this times `ln f`.
const UP_GAIN: f64 = 0.025;
/// A step down in rows may lose this times `ln f`: equal speeds prefer fewer rows.
const DOWN_LOSS: f64 = 0.015;
/// More runs must gain this, and fewer may lose it.
const RUNS_GAIN: f64 = 0.01;
/// Holding requests back, or lingering, must gain this.
const HOLD_GAIN: f64 = 0.02;
const LINGER_GAIN: f64 = 0.04;
/// Runs that take less are never lingered for: timers have a granularity of a millisecond, and a
/// client that does not come back would cost several runs.
pub(super) const MIN_LINGER: Micros = 1_000;
/// Standard errors by which a difference must exceed that.
const CERTAIN: f64 = 2.5;
/// Comparisons of one candidate before the mean decides.
const MAX_PAIRS: u32 = 6;
/// Windows of rest after a comparison that changed nothing, for each window that it took.
const MAX_REST: u32 = 128;
/// A move that was worse by this is tried less and less often: so many times half as often.
const CLEARLY: f64 = 0.03;
const MAX_WORSE: u32 = 4;
/// A candidate that is worse by this is given up before its window has ended.
const HOPELESS: f64 = 0.15;
/// Fewer rows are not tried if each would cost so many times more.
const MUCH_DEARER: f64 = 1.08;
/// The factors of steps: the first after a success, the next after each failure.
const STEPS: [f64; 3] = [2.0, 1.5, 1.25];
/// A speed that is off by so many standard deviations while resting starts the search again.
const SURPRISE: f64 = 5.0;
/// The noise of a window is assumed to be between these.
const MIN_NOISE: f64 = 0.005;
const MAX_NOISE: f64 = 0.5;
/// Windows are longer, up to so many times, if their noise is more than this.
const QUIET: f64 = 0.04;
const MAX_LENGTH: u32 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) runs: usize,
    pub(super) rows: u64,
    pub(super) wait: Wait,
}

/// What requests wait for although a run may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    No,
    /// A run beside others waits until it is about as large as they are.
    Hold,
    /// Requests that have waited for a run to come back wait a little longer for the next requests
    /// of the clients that it answered.
    Linger,
}

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    MoreRows,
    MoreRuns,
    /// More runs with fewer rows each.
    Split,
    FewerRows,
    FewerRuns,
    Join,
    /// Begins or ceases to hold requests back.
    Hold,
    /// Begins or ceases to linger.
    Linger,
}

const MOVES: [Move; 8] = [
    Move::MoreRows,
    Move::MoreRuns,
    Move::Split,
    Move::Hold,
    Move::FewerRows,
    Move::FewerRuns,
    Move::Join,
    Move::Linger,
];
/// So many moves are tried in turn; lingering is rarely among them.
const ROUND: u32 = 7;

#[derive(Debug)]
pub(super) struct Climb {
    center: Setting,
    max_rows: u64,
    phase: Phase,
    /// The next move, and the step of each.
    next: usize,
    steps: [usize; MOVES.len()],
    /// So many times each move is passed over, and how often it was clearly worse.
    passes: [u32; MOVES.len()],
    worse: [u32; MOVES.len()],
    /// Comparisons in a row that changed nothing.
    failures: u32,
    rest: u32,
    /// Variance of a window around the one before it.
    noise: Option<f64>,
    /// The last windows of rest.
    usual: Option<Measure>,
}

#[derive(Debug)]
enum Phase {
    Rest { left: u32 },
    Compare(Compare),
}

#[derive(Debug)]
struct Compare {
    to: Setting,
    wanted: f64,
    before: Measure,
    /// The measure of the candidate; then the center is measured again.
    there: Option<Measure>,
    pairs: u32,
    sum: f64,
}

impl Climb {
    pub(super) fn new(start: Option<Setting>, max_rows: u64) -> Self {
        let start = start.unwrap_or(START);
        Self {
            center: Setting { rows: start.rows.clamp(1, max_rows), ..start },
            max_rows,
            phase: Phase::Rest { left: 0 },
            next: 0,
            steps: [0; MOVES.len()],
            passes: [0; MOVES.len()],
            worse: [0; MOVES.len()],
            failures: 0,
            rest: 1,
            noise: None,
            usual: None,
        }
    }

    pub(super) fn setting(&self) -> Setting {
        match &self.phase {
            Phase::Compare(Compare { to, there: None, .. }) => *to,
            Phase::Rest { .. } | Phase::Compare(_) => self.center,
        }
    }

    pub(super) fn center(&self) -> Setting {
        self.center
    }

    /// How many times the shortest a window should be.
    pub(super) fn length(&self) -> u32 {
        let noise = self.noise.map_or(0.0, f64::sqrt);
        ((noise / QUIET).powi(2).ceil() as u32).clamp(1, MAX_LENGTH)
    }

    /// A window has ended at the present setting.
    pub(super) fn judge(&mut self, measure: Measure, curve: &Curve) {
        match &mut self.phase {
            Phase::Rest { left } => {
                let left = *left;
                self.rested(left, measure, curve);
            }
            Phase::Compare(compare) => match compare.there {
                None => {
                    compare.there = Some(measure);
                    self.judge_first();
                }
                Some(there) => {
                    let gains = (difference(&compare.before, &there), difference(&measure, &there));
                    compare.pairs += 1;
                    compare.sum += f64::midpoint(gains.0, gains.1);
                    let drift = difference(&compare.before, &measure);
                    compare.before = measure;
                    compare.there = None;
                    self.observe_noise(drift);
                    self.judge_pairs();
                }
            },
        }
    }

    /// A part of a window has passed.
    pub(super) fn glimpse(&mut self, measure: &Measure) {
        let Phase::Compare(Compare { there: None, before, wanted, .. }) = &self.phase else { return };
        let margin = difference(before, measure) - wanted;
        if margin < -HOPELESS - 2.0 * CERTAIN * self.deviation() {
            self.failed(margin);
        }
    }

    /// A candidate with which more requests pile up than with the center is given up at once: at a
    /// rate of requests that does not depend on the answers, it might be too slow.
    pub(super) fn watch(&mut self, peak: u64) {
        if let Phase::Compare(Compare { there: None, before, .. }) = &self.phase
            && !before.saturated
            && peak > before.peak + before.peak / 8 + 1
        {
            self.failed(-CLEARLY);
        }
    }

    fn rested(&mut self, left: u32, measure: Measure, curve: &Curve) {
        if self.center.rows > 1 && curve.is_apart() {
            self.center.rows = 1;
            self.usual = None;
            return;
        }
        if let Some(usual) = self.usual {
            let off = difference(&usual, &measure);
            if off.abs() > (SURPRISE * self.deviation()).max(0.2) {
                // The load or the server has changed.
                self.failures = 0;
                self.rest = 1;
                self.steps = [1; MOVES.len()];
                (self.worse, self.passes) = ([0; MOVES.len()], [0; MOVES.len()]);
                self.usual = Some(measure);
                self.start(measure, curve);
                return;
            }
            self.observe_noise(off);
        }
        self.usual = Some(measure);
        if left > 0 {
            self.phase = Phase::Rest { left: left - 1 };
            return;
        }
        self.start(measure, curve);
    }

    /// Begins to compare with the next candidate.
    fn start(&mut self, measure: Measure, curve: &Curve) {
        for _ in 0..MOVES.len() {
            if self.passes[self.next] > 0 {
                self.passes[self.next] -= 1;
                self.next = (self.next + 1) % MOVES.len();
                continue;
            }
            if let Some((to, wanted)) =
                self.candidate(MOVES[self.next], STEPS[self.steps[self.next]], &measure, curve)
            {
                let before = measure;
                self.phase = Phase::Compare(Compare { to, wanted, before, there: None, pairs: 0, sum: 0.0 });
                return;
            }
            self.next = (self.next + 1) % MOVES.len();
        }
        self.phase = Phase::Rest { left: self.rest };
    }

    /// The setting that a move leads to, if it would make a difference, and what it must gain.
    fn candidate(&self, by: Move, step: f64, measure: &Measure, curve: &Curve) -> Option<(Setting, f64)> {
        let Setting { runs, rows, wait } = self.center;
        let more_runs = (runs + 1).max((runs as f64 * step).round() as usize).min(MAX_RUNS);
        let fewer_runs = ((runs as f64 / step).round() as usize).min(runs.saturating_sub(1)).max(1);
        let more_rows =
            |from: u64, step: f64| (from + 1).max((from as f64 * step).round() as u64).min(self.max_rows);
        let fewer_rows =
            |from: u64, step: f64| ((from as f64 / step).round() as u64).min(from.saturating_sub(1)).max(1);
        // Fewer rows than the runs have had.
        let used = rows.min(measure.largest);
        let (to, useful) = match by {
            Move::MoreRows => (Setting { rows: more_rows(rows, step), ..self.center }, measure.capped),
            Move::FewerRows => (Setting { rows: fewer_rows(used, step), ..self.center }, measure.blocked),
            Move::MoreRuns => (Setting { runs: more_runs, ..self.center }, measure.blocked),
            Move::FewerRuns => (Setting { runs: fewer_runs, ..self.center }, measure.blocked),
            Move::Split => {
                let step = (more_runs + 1) as f64 / (runs + 1) as f64;
                (Setting { runs: more_runs, rows: fewer_rows(used, step), wait }, measure.blocked)
            }
            Move::Join => {
                let step = (runs + 1) as f64 / (fewer_runs + 1) as f64;
                (Setting { runs: fewer_runs, rows: more_rows(rows, step), wait }, measure.blocked)
            }
            Move::Hold => {
                let wait = if wait == Wait::Hold { Wait::No } else { Wait::Hold };
                (Setting { wait, ..self.center }, measure.blocked && runs > 1)
            }
            Move::Linger if wait == Wait::Linger => {
                (Setting { wait: Wait::No, ..self.center }, !measure.saturated)
            }
            Move::Linger => {
                // What two groups of clients in turn have had, in one run.
                let rows = (2 * used * runs as u64).clamp(rows, self.max_rows);
                // With more runs at once the server is busy while a run comes back.
                let useful = measure.blocked && measure.follow && !measure.saturated && runs == 1;
                let long = curve.expected(used).is_some_and(|time| time >= MIN_LINGER);
                (Setting { runs: 1, rows, wait: Wait::Linger }, useful && long)
            }
        };
        let step = (to.runs as f64 * to.rows as f64 / (runs as f64 * rows as f64)).ln();
        let wanted = match by {
            Move::FewerRows => DOWN_LOSS * step,
            Move::FewerRuns => -RUNS_GAIN,
            Move::MoreRuns | Move::Split => RUNS_GAIN,
            Move::Hold if wait == Wait::Hold => -HOLD_GAIN,
            Move::Linger if wait == Wait::Linger => -LINGER_GAIN,
            Move::Linger => LINGER_GAIN,
            Move::Hold => HOLD_GAIN,
            _ => UP_GAIN * step.max(0.2),
        };
        // What is known of runs with fewer rows says that each row would cost more.
        let dearer = by == Move::FewerRows
            && curve.row(to.rows).zip(curve.row(used)).is_some_and(|(fewer, now)| fewer > now * MUCH_DEARER);
        let changes = match by {
            Move::Split | Move::Join => to.runs != runs && to.rows != rows,
            _ => to != self.center,
        };
        (useful && changes && !dearer).then_some((to, wanted))
    }

    /// After the candidate's first window: a clear difference needs no second look at the center.
    fn judge_first(&mut self) {
        let Phase::Compare(Compare { there: Some(there), before, wanted, pairs: 0, .. }) = &self.phase else {
            return;
        };
        let margin = difference(before, there) - wanted;
        let doubt = 2.0 * (CERTAIN * self.deviation() * 2.0_f64.sqrt()).max(0.02);
        if margin > doubt {
            self.succeeded();
        } else if margin < -doubt {
            self.failed(margin);
        }
    }

    fn judge_pairs(&mut self) {
        let Phase::Compare(compare) = &self.phase else { return };
        let pairs = f64::from(compare.pairs);
        let margin = compare.sum / pairs - compare.wanted;
        let doubt = CERTAIN * self.deviation() * (1.5 / pairs).sqrt();
        if margin.abs() < doubt && compare.pairs < MAX_PAIRS {
            return;
        }
        if margin > doubt {
            self.succeeded();
        } else {
            self.failed(margin);
        }
    }

    fn succeeded(&mut self) {
        let Phase::Compare(compare) = &self.phase else { return };
        self.center = compare.to;
        self.steps[self.next] = 0;
        self.worse = self.worse.map(|worse| worse.min(1));
        self.passes = [0; MOVES.len()];
        self.failures = 0;
        self.rest = 1;
        self.usual = None;
        // The move is tried again, from what is measured next.
        self.phase = Phase::Rest { left: 0 };
    }

    /// The candidate is no better, by this margin.
    fn failed(&mut self, margin: f64) {
        if margin < -CLEARLY {
            self.worse[self.next] = (self.worse[self.next] + 1).min(MAX_WORSE);
            self.passes[self.next] = (1 << self.worse[self.next]) - 1;
        }
        self.steps[self.next] = (self.steps[self.next] + 1).min(STEPS.len() - 1);
        self.next = (self.next + 1) % MOVES.len();
        self.failures += 1;
        if self.failures.is_multiple_of(ROUND) {
            self.rest = (self.rest * 4).min(MAX_REST);
        }
        let spent = if let Phase::Compare(compare) = &self.phase { compare.pairs.max(1) } else { 1 };
        self.phase = Phase::Rest { left: self.rest * spent };
    }

    fn observe_noise(&mut self, difference: f64) {
        let seen = (difference * difference / 2.0).clamp(MIN_NOISE * MIN_NOISE, MAX_NOISE * MAX_NOISE);
        self.noise = Some(self.noise.map_or(seen, |noise| noise + (seen - noise) / 8.0));
    }

    fn deviation(&self) -> f64 {
        self.noise.map_or(0.03, f64::sqrt)
    }
}

/// By how much `to` is better than `from`, in the logarithm.
fn difference(from: &Measure, to: &Measure) -> f64 {
    if from.saturated && to.saturated { to.rate - from.rate } else { to.speed - from.speed }
}
