//! The sums of a window by feature: moments, values that the training data excludes, and counts by
//! cell.
use super::checks::Checks;
use super::drift::{Drift, cell, psi};

/// Rows whose values are all counted by cell; later only every fourth is.
const COUNTED_ROWS: u64 = 64;
/// Groups of a row that are counted by cell.
const COUNTED_GROUPS: usize = 128;

#[derive(Debug, Clone)]
pub(super) struct Moments {
    /// Groups of different rows.
    pub(super) groups: u64,
    /// Of the distances to the mean of the training data.
    sum: Vec<f64>,
    squares: Vec<f64>,
    /// Values that are not finite.
    lost: Vec<u32>,
    zeros: Vec<u32>,
    /// Values that the training data excludes.
    pub(super) outside: Vec<u32>,
    /// The most frequent of them, if it is more than half (Boyer and Moore), and its lead.
    vote: Vec<f64>,
    votes: Vec<u32>,
    /// All rows, equal ones too.
    rows: u64,
    cells: Vec<[u32; 8]>,
    counted: u64,
}

impl Moments {
    pub(super) fn new(features: usize) -> Self {
        Self {
            groups: 0,
            sum: vec![0.0; features],
            squares: vec![0.0; features],
            lost: vec![0; features],
            zeros: vec![0; features],
            outside: vec![0; features],
            vote: vec![0.0; features],
            votes: vec![0; features],
            rows: 0,
            cells: vec![[0; 8]; features],
            counted: 0,
        }
    }

    /// Counts a row by cell, whether or not it was seen before.
    pub(super) fn count(&mut self, checks: &Checks, row: &[f64]) {
        self.rows += 1;
        if self.rows > COUNTED_ROWS && !self.rows.is_multiple_of(4) {
            return;
        }
        let width = checks.width();
        let step = (row.len() / width).div_ceil(COUNTED_GROUPS).max(1);
        for group in row.chunks_exact(width).step_by(step) {
            self.counted += 1;
            for ((value, cells), profile) in group.iter().zip(&mut self.cells).zip(&checks.features) {
                if value.is_finite() {
                    cells[cell(&profile.quantiles, *value)] += 1;
                }
            }
        }
    }

    /// Adds a row that was not seen before.
    pub(super) fn add(&mut self, checks: &Checks, row: &[f64]) {
        let width = checks.width();
        for group in row.chunks_exact(width) {
            self.groups += 1;
            let mut suspect = false;
            for (at, value) in group.iter().enumerate() {
                suspect |= checks.suspect(at, *value);
            }
            if suspect {
                self.add_suspect(checks, group);
                continue;
            }
            let sums = self.sum.iter_mut().zip(&mut self.squares).zip(&mut self.zeros);
            for (((sum, squares), zeros), (value, shift)) in sums.zip(group.iter().zip(&checks.shift)) {
                let distance = value - shift;
                *sum += distance;
                *squares += distance * distance;
                *zeros += u32::from(*value == 0.0);
            }
        }
    }

    fn add_suspect(&mut self, checks: &Checks, group: &[f64]) {
        for (at, &value) in group.iter().enumerate() {
            if value.is_finite() {
                let distance = value - checks.shift[at];
                self.sum[at] += distance;
                self.squares[at] += distance * distance;
                self.zeros[at] += u32::from(value == 0.0);
            } else {
                self.lost[at] += 1;
            }
            if checks.excludes(at, value) {
                self.outside[at] += 1;
                if self.votes[at] == 0 {
                    (self.vote[at], self.votes[at]) = (value, 1);
                } else if same(self.vote[at], value) {
                    self.votes[at] += 1;
                } else {
                    self.votes[at] -= 1;
                }
            }
        }
    }

    /// Mean and standard deviation of the finite values of different rows; `None` without any.
    pub(super) fn of(&self, checks: &Checks, at: usize) -> Option<(f64, f64)> {
        let count = self.groups.saturating_sub(u64::from(self.lost[at]));
        if count == 0 {
            return None;
        }
        let mean = self.sum[at] / count as f64;
        let variance = (self.squares[at] / count as f64 - mean * mean).max(0.0);
        let both = (mean + checks.shift[at], variance.sqrt());
        (both.0.is_finite() && both.1.is_finite()).then_some(both)
    }

    /// Values that say something about a scale: in a feature that is mostly 0, those that are not.
    pub(super) fn informative(&self, checks: &Checks, at: usize) -> u64 {
        let zeros = if checks.features[at].zero >= 0.5 { u64::from(self.zeros[at]) } else { 0 };
        self.groups - zeros.min(self.groups)
    }

    /// The one value that at least three quarters of the excluded values of a feature have.
    pub(super) fn code(&self, at: usize) -> Option<f64> {
        (self.votes[at] > 0 && 2 * self.votes[at] >= self.outside[at]).then(|| self.vote[at])
    }

    pub(super) fn drift(&self, checks: &Checks) -> Drift {
        let index = self.cells.iter().zip(&checks.shares).map(|(cells, shares)| psi(shares, cells));
        Drift::of(self.counted, index)
    }

    pub(super) fn bytes(&self) -> usize {
        self.sum.len() * (3 * 8 + 4 * 4 + 32)
    }
}

/// Equality that holds for NaN too.
pub(super) fn same(one: f64, other: f64) -> bool {
    one == other || (one.is_nan() && other.is_nan())
}
