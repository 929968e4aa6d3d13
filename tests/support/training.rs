//! Invented training data: rows behind a StandardScaler, the same before it, and their profile.
use std::collections::BTreeMap;

use tfs_sidecar::profile::describe::TensorStats;
use tfs_sidecar::profile::{By, Profile, Scaler, TensorProfile};
use tfs_sidecar::tensor::DataType;

use super::random::Random;

pub const INPUT: &str = "x";
pub const FEATURES: usize = 10;
const ROWS: usize = 4000;

/// A number of the normal distribution, nearly: the sum of twelve uniform ones.
pub fn normal(random: &mut Random) -> f64 {
    (0..12).map(|_| random.below(1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0
}

pub fn mean(feature: usize) -> f64 {
    100.0 * (feature + 1) as f64
}

pub fn scale(feature: usize) -> f64 {
    5.0 + feature as f64
}

/// A row as the model was trained on it.
pub fn scaled(random: &mut Random) -> Vec<f64> {
    (0..FEATURES).map(|_| normal(random)).collect()
}

/// The same before its StandardScaler.
pub fn raw(row: &[f64]) -> Vec<f64> {
    row.iter().enumerate().map(|(at, value)| mean(at) + scale(at) * value).collect()
}

fn describe(rows: &[Vec<f64>]) -> TensorProfile {
    let mut stats = TensorStats::new(DataType::FLOAT, By::Feature, FEATURES);
    for row in rows {
        stats.add(0, row);
    }
    stats.profile()
}

/// A profile of 4,000 rows, with what they were before the scaler.
pub fn profile() -> Profile {
    let mut random = Random::new(1);
    let rows: Vec<Vec<f64>> = (0..ROWS).map(|_| scaled(&mut random)).collect();
    let before: Vec<Vec<f64>> = rows.iter().map(|row| raw(row)).collect();
    let scaler = Scaler::Standard {
        mean: (0..FEATURES).map(mean).collect(),
        scale: (0..FEATURES).map(scale).collect(),
    };
    let mut input = describe(&rows);
    (input.raw, input.scaler) = (Some(describe(&before).features), Some(scaler));
    Profile { rows: ROWS as u64, inputs: BTreeMap::from([(INPUT.to_owned(), input)]), ..Profile::default() }
}
