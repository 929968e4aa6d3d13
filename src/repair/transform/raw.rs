//! `when: raw`: whether the values of a request are those before the scaler.
//!
//! A request is taken for raw only if each of its rows is more likely on the raw side of the
//! profile, and all together at least a million times. A row that is sent twice is one piece of
//! evidence. A fixed client's request is as clearly on the other side, and passes without a word.
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::profile::Ratio;

/// The natural logarithm of 10^6: how much more likely raw a request must be.
pub const CERTAIN: f64 = 13.815_510_557_964_274;

/// Different rows that count, at most.
const MAX_SEEN: usize = 1 << 16;

/// Values of a row that are held at a time, at most.
pub(super) const MAX_ROW: usize = 1 << 20;

/// On which side of the profile the rows of a request are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Raw,
    /// As the model takes them.
    Scaled,
    /// The rows disagree, or could be on either side.
    Unclear,
}

/// Adds up the evidence of rows.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    ratio: &'a Ratio,
    row: Vec<f64>,
    length: usize,
    raw: f64,
    scaled: f64,
    all_raw: bool,
    all_scaled: bool,
    /// Hashes of the rows that counted. No more are needed once the sum is certain.
    seen: HashSet<u64>,
}

impl<'a> Evidence<'a> {
    /// For rows of this many values, at least one.
    pub(super) fn new(ratio: &'a Ratio, length: usize) -> Self {
        let length = length.max(1);
        Self {
            ratio,
            row: Vec::with_capacity(length.min(MAX_ROW)),
            length,
            raw: 0.0,
            scaled: 0.0,
            all_raw: true,
            all_scaled: true,
            seen: HashSet::new(),
        }
    }

    /// Adds float64 values in their order.
    ///
    /// # Errors
    /// The rows disagree, so more of them change nothing.
    pub(super) fn feed(&mut self, doubles: &[u8]) -> Result<(), Disagree> {
        for bytes in doubles.as_chunks().0 {
            self.row.push(f64::from_le_bytes(*bytes));
            if self.row.len() == self.length {
                self.add();
                self.row.clear();
                if !self.all_raw && !self.all_scaled {
                    return Err(Disagree);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self) {
        let ratio = self.ratio.of(&self.row);
        self.all_raw &= ratio > 0.0;
        self.all_scaled &= ratio < 0.0;
        if self.raw.max(self.scaled) >= CERTAIN || self.seen.len() >= MAX_SEEN {
            return;
        }
        let mut hasher = DefaultHasher::new();
        for value in &self.row {
            value.to_bits().hash(&mut hasher);
        }
        if self.seen.insert(hasher.finish()) {
            self.raw += ratio.max(0.0);
            self.scaled += (-ratio).max(0.0);
        }
    }

    pub(super) fn side(&self) -> Side {
        if self.all_raw && self.raw >= CERTAIN {
            Side::Raw
        } else if self.all_scaled && self.scaled >= CERTAIN {
            Side::Scaled
        } else {
            Side::Unclear
        }
    }
}

/// Some rows are more likely raw and some are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disagree;
