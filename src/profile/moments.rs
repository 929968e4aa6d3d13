//! The sums of a window by feature: moments, values that the training data excludes, and counts by
//! cell.
use super::checks::Checks;
use super::drift::{Drift, cell, psi};

/// Rows that are all summed up and counted by cell; later every fourth is.
const COUNTED_ROWS: u64 = 64;
/// Groups of a row that are counted by cell.
const COUNTED_GROUPS: usize = 128;

/// The sums of a window. Some lists have one element for each feature, others as many as a tile of
/// [`Checks`], of which those of a feature are added up when they are needed.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    /// Different rows, and their groups.
    rows: u64,
    pub(super) groups: u64,
    /// Groups of the rows whose values are summed up.
    summed: u64,
    /// Of the distances to the mean of the training data.
    sum: Vec<f64>,
    squares: Vec<f64>,
    zeros: Vec<u32>,
    /// Values that are not finite, of the rows that are summed up.
    lost: Vec<u32>,
    /// Values that the training data excludes.
    pub(super) outside: Vec<u32>,
    /// The most frequent of them, if it is more than half (Boyer and Moore), and its lead.
    vote: Vec<f64>,
    votes: Vec<u32>,
    /// All rows, equal ones too.
    all_rows: u64,
    cells: Vec<[u32; 8]>,
    counted: u64,
}

impl Moments {
    pub(super) fn new(features: usize, tile: usize) -> Self {
        Self {
            rows: 0,
            groups: 0,
            summed: 0,
            sum: vec![0.0; tile],
            squares: vec![0.0; tile],
            zeros: vec![0; tile],
            lost: vec![0; features],
            outside: vec![0; features],
            vote: vec![0.0; features],
            votes: vec![0; features],
            all_rows: 0,
            cells: vec![[0; 8]; features],
            counted: 0,
        }
    }

    /// Counts a row by cell, whether or not it was seen before.
    pub(super) fn count(&mut self, checks: &Checks, row: &[f64]) {
        self.all_rows += 1;
        if !is_counted(self.all_rows) {
            return;
        }
        let width = checks.width();
        let step = (row.len() / width).div_ceil(COUNTED_GROUPS).max(1);
        for group in row.chunks_exact(width).step_by(step) {
            self.counted += 1;
            for ((value, cells), edges) in group.iter().zip(&mut self.cells).zip(&checks.edges) {
                if value.is_finite() {
                    cells[cell(edges, *value)] += 1;
                }
            }
        }
    }

    /// Adds a row that was not seen before.
    pub(super) fn add(&mut self, checks: &Checks, row: &[f64]) {
        let groups = (row.len() / checks.width()) as u64;
        self.rows += 1;
        self.groups += groups;
        let summed = is_counted(self.rows);
        self.summed += if summed { groups } else { 0 };
        for block in row.chunks(checks.tile) {
            if checks.any_suspect(block) {
                self.add_suspect(checks, block, summed);
                continue;
            }
            if !summed {
                continue;
            }
            let count = block.len();
            let (sum, squares) = (&mut self.sum[..count], &mut self.squares[..count]);
            let (zeros, shift) = (&mut self.zeros[..count], &checks.shift[..count]);
            for at in 0..count {
                let distance = block[at] - shift[at];
                sum[at] += distance;
                squares[at] += distance * distance;
                zeros[at] += u32::from(block[at] == 0.0);
            }
        }
    }

    fn add_suspect(&mut self, checks: &Checks, block: &[f64], summed: bool) {
        let width = checks.width();
        for (place, &value) in block.iter().enumerate() {
            let at = place % width;
            if summed && value.is_finite() {
                let distance = value - checks.shift[place];
                self.sum[place] += distance;
                self.squares[place] += distance * distance;
                self.zeros[place] += u32::from(value == 0.0);
            } else if summed {
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
        let count = self.summed.saturating_sub(u64::from(self.lost[at]));
        if count == 0 {
            return None;
        }
        let total = |of: &[f64]| of.iter().skip(at).step_by(checks.width()).sum::<f64>();
        let mean = total(&self.sum) / count as f64;
        let variance = (total(&self.squares) / count as f64 - mean * mean).max(0.0);
        let both = (mean + checks.shift[at], variance.sqrt());
        (both.0.is_finite() && both.1.is_finite()).then_some(both)
    }

    /// Values that say something about a scale: in a feature that is mostly 0, those that are not.
    pub(super) fn informative(&self, checks: &Checks, at: usize) -> f64 {
        if checks.features[at].zero < 0.5 || self.summed == 0 {
            return self.groups as f64;
        }
        let zeros: u32 = self.zeros.iter().skip(at).step_by(checks.width()).sum();
        self.groups as f64 * (1.0 - f64::from(zeros) / self.summed as f64)
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
        self.sum.len() * (2 * 8 + 4) + self.outside.len() * (8 + 3 * 4 + 32)
    }
}

fn is_counted(row: u64) -> bool {
    row <= COUNTED_ROWS || row.is_multiple_of(4)
}

/// Equality that holds for NaN too.
pub(super) fn same(one: f64, other: f64) -> bool {
    one == other || (one.is_nan() && other.is_nan())
}
