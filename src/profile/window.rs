//! What is known of one caller's values for one input, until the window is closed.
use super::Sample;
use super::checks::Checks;
use super::drift::Drift;
use super::evidence::{Distinct, hash};
use super::finding::CallerFinding;
use super::mistakes::Suspects;
use super::moments::Moments;
use super::trial::{MANY_GROUPS, MAX_TRIALS, Outcome, Trial};

/// Different rows after which mistakes are looked for.
const FIRST_LOOK: u32 = 16;
/// Values of the training data below which a caller is never found at fault.
const MIN_COUNT: u64 = 200;

/// The values of one caller for one input. Its memory depends on the features alone.
#[derive(Debug, Clone)]
pub struct Window {
    seen: Distinct,
    moments: Moments,
    /// Different rows.
    rows: u32,
    state: State,
    trials: u32,
}

#[derive(Debug, Clone)]
enum State {
    /// Until this number of different rows.
    Watching(u32),
    Trying(Box<Trial>),
    Found(Box<CallerFinding>),
}

impl Window {
    pub fn new(checks: &Checks) -> Self {
        Self {
            seen: Distinct::new(),
            moments: Moments::new(checks.width(), checks.tile),
            rows: 0,
            state: State::Watching(FIRST_LOOK),
            trials: 0,
        }
    }

    /// Adds the sampled rows of a request. A sample of another number of features is ignored.
    /// Equal rows count once, except for drift.
    pub fn add(&mut self, checks: &Checks, sample: &Sample) {
        if sample.features != checks.width() || self.moments.outside.len() != checks.width() {
            return;
        }
        for row in sample.values.chunks_exact((sample.groups * sample.features).max(1)) {
            self.moments.count(checks, row);
            if !self.seen.insert(hash(row)) {
                continue;
            }
            self.rows += 1;
            self.moments.add(checks, row);
            match &mut self.state {
                State::Watching(until) if self.rows >= *until => {
                    *until = until.saturating_mul(2);
                    self.look(checks, sample.groups);
                }
                State::Trying(trial) => match trial.add(checks, row) {
                    Outcome::Continue => {}
                    Outcome::Found(found) => self.state = State::Found(found),
                    Outcome::Nothing => self.state = State::Watching(self.rows + (self.rows / 2).max(16)),
                },
                State::Watching(_) | State::Found(_) => {}
            }
        }
    }

    /// What the caller does wrong, once it is certain. It stays until the window is closed.
    pub fn verdict(&self) -> Option<&CallerFinding> {
        match &self.state {
            State::Found(found) => Some(found),
            State::Watching(_) | State::Trying(_) => None,
        }
    }

    /// How far the values have moved from the training data.
    pub fn drift(&self, checks: &Checks) -> Drift {
        self.moments.drift(checks)
    }

    /// Different rows so far.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        let state = match &self.state {
            State::Trying(trial) => trial.bytes(),
            State::Watching(_) => 0,
            State::Found(_) => size_of::<CallerFinding>(),
        };
        size_of::<Self>() + self.seen.bytes() + self.moments.bytes() + state
    }

    /// Starts a trial if anything is suspicious.
    fn look(&mut self, checks: &Checks, groups: usize) {
        let enough = checks.features.iter().all(|feature| feature.count >= MIN_COUNT);
        if !enough || self.trials >= MAX_TRIALS {
            return;
        }
        let suspects = self.suspects(checks, groups >= MANY_GROUPS);
        let is_suspicious = !suspects.outside.is_empty()
            || !suspects.coded.is_empty()
            || (self.rows >= 2 * FIRST_LOOK
                && suspects.moved.len() >= if groups >= MANY_GROUPS { 1 } else { 3 });
        if is_suspicious && let Some(trial) = Trial::new(&suspects, groups) {
            self.trials += 1;
            self.state = State::Trying(trial.into());
        }
    }

    fn suspects<'a>(&'a self, checks: &'a Checks, many_groups: bool) -> Suspects<'a> {
        let moments = &self.moments;
        let (mut outside, mut moved, mut coded) = (Vec::new(), Vec::new(), Vec::new());
        for at in 0..checks.width() {
            let (excluded, informative) = (moments.outside[at], moments.informative(checks, at));
            let share = f64::from(excluded) / informative.max(1.0);
            if excluded >= 3 && share >= if many_groups { 0.02 } else { 0.4 } {
                outside.push(at);
            }
            if excluded >= 3
                && f64::from(excluded) >= 0.05 * moments.groups as f64
                && let Some(code) = moments.code(at)
            {
                coded.push((at, code, f64::from(excluded) / moments.groups as f64));
            }
            if self.has_moved(checks, at) {
                moved.push(at);
            }
        }
        Suspects { checks, moments, outside, moved, coded }
    }

    /// Whether the mean or the spread of a feature is far from those of the training data.
    fn has_moved(&self, checks: &Checks, at: usize) -> bool {
        let profile = &checks.features[at];
        let Some((mean, std)) = self.moments.of(checks, at) else { return false };
        if profile.std.is_nan() || profile.std <= 0.0 {
            return false;
        }
        let noise = 4.0 * profile.std.min(std) / f64::from(self.rows.max(1)).sqrt();
        (mean - profile.mean).abs() > 0.4 * profile.std + noise
            || !(0.6..=1.67).contains(&(std / profile.std))
    }
}
