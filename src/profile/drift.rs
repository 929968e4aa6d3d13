//! How far traffic has moved from the training data: the population stability index.
use super::model::{FeatureProfile, QUANTILES};

/// Features whose drift is given one by one.
pub const WORST: usize = 16;

/// Drift of the features of one window.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Drift {
    /// Groups of values that were counted. Below about 500 the index is mostly noise.
    pub groups: u64,
    /// The features of largest index, with it, the largest first, at most [`WORST`].
    pub worst: Vec<(usize, f64)>,
    /// The largest index of the others, 0 if there are none.
    pub others: f64,
}

/// The shares of the values in the eight cells that the quantiles make: cell `i` has the values
/// with `i` quantiles strictly below them. Equal quantiles share a cell.
pub(super) fn shares(feature: &FeatureProfile) -> [f64; 8] {
    let mut shares = [0.0; 8];
    if !feature.has_values() {
        return shares;
    }
    if !feature.values.is_empty() {
        for (value, share) in &feature.values {
            shares[cell(&feature.quantiles, *value)] += share;
        }
        return shares;
    }
    let mut below = 0.0;
    for (at, &value) in feature.quantiles.iter().enumerate() {
        let last = (at..7).take_while(|other| feature.quantiles[*other] == value).last().unwrap_or(at);
        if at > 0 && feature.quantiles[at - 1] == value {
            continue;
        }
        let mut upto = QUANTILES[last];
        // Many zeros: their share is known exactly, that of another value only roughly.
        if value == 0.0 && last > at && feature.min >= 0.0 {
            upto = feature.zero.clamp(upto, 1.0);
        }
        shares[at] = upto - below;
        below = upto;
    }
    shares[7] = (1.0 - below).max(0.0);
    shares
}

/// The cell of a value.
#[inline]
pub(super) fn cell(quantiles: &[f64; 7], value: f64) -> usize {
    quantiles.iter().map(|quantile| usize::from(value > *quantile)).sum()
}

/// The population stability index: the sum of `(seen - expected) * ln(seen / expected)` over the
/// cells. 0 without counts. Half a value is added to each cell, so that none is empty.
pub(super) fn psi(expected: &[f64; 8], counts: &[u32; 8]) -> f64 {
    let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    if total == 0 {
        return 0.0;
    }
    let cells = expected.iter().filter(|share| **share > 0.0).count().max(1) as f64;
    let mut sum = 0.0;
    for (share, count) in expected.iter().zip(counts) {
        if *share == 0.0 && *count == 0 {
            continue;
        }
        let share = share.max(0.5 / total as f64);
        let seen = (f64::from(*count) + 0.5) / (total as f64 + 0.5 * cells);
        sum += (seen - share) * (seen / share).ln();
    }
    sum
}

impl Drift {
    pub(super) fn of(groups: u64, index: impl Iterator<Item = f64>) -> Self {
        let mut worst: Vec<(usize, f64)> = Vec::with_capacity(WORST + 1);
        let mut others = 0.0_f64;
        for (at, psi) in index.enumerate() {
            let place = worst.partition_point(|(_, other)| *other >= psi);
            if place < WORST {
                worst.insert(place, (at, psi));
                if worst.len() > WORST {
                    others = worst.pop().map_or(others, |(_, last)| others.max(last));
                }
            } else {
                others = others.max(psi);
            }
        }
        Self { groups, worst, others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_features_are_given_one_by_one_and_the_others_by_their_largest() {
        // In no order: 0, 7, 14, 1, 8, ...
        let drift = Drift::of(1, (0..20).map(|at| f64::from(at * 7 % 20)));
        let indexes: Vec<f64> = drift.worst.iter().map(|(_, index)| *index).collect();
        let expected: Vec<f64> = (4..20).rev().map(f64::from).collect();
        assert_eq!((indexes, drift.others), (expected, 3.0));
        assert!(drift.worst.iter().all(|(at, index)| (at * 7 % 20) as f64 == *index));
        let few = Drift::of(1, [0.5, 0.75].into_iter());
        assert_eq!((few.worst, few.others), (vec![(1, 0.75), (0, 0.5)], 0.0));
    }
}
