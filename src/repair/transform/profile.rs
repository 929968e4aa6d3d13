//! What the profile of an input gives its transforms: the numbers of the scaler, and which side a
//! row is on.
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Numbers, When};
use crate::profile::{By, FeatureProfile, Profile, RawOrProfile, Scaler, TensorProfile};
use crate::repair::RuleValues;

/// What was read of the profile of one input.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bound {
    /// From `raw` to what the model takes; `None` if the profile has neither a scaler nor two
    /// sides.
    pub scaler: Option<Numbers>,
    /// Tells the sides apart; `None` without a `raw` side.
    pub ratio: Option<Ratio>,
    /// What [`Self::ratio`] says of a usual raw row, the medians of its features, if a row has one
    /// value of each feature.
    pub one_row: Option<f64>,
}

/// The natural logarithm of the likelihood of a row on the `raw` side of a profile over that on the
/// other.
#[derive(Clone)]
pub struct Ratio(Arc<OfRow>);

type OfRow = dyn Fn(&[f64]) -> f64 + Send + Sync;

impl Ratio {
    pub fn new(of_row: impl Fn(&[f64]) -> f64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(of_row))
    }

    /// NaN counts as 0: it says nothing.
    pub(super) fn of(&self, row: &[f64]) -> f64 {
        let ratio = (self.0)(row);
        if ratio.is_nan() { 0.0 } else { ratio }
    }
}

impl fmt::Debug for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ratio")
    }
}

impl PartialEq for Ratio {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Gives the transforms of a signature what its profile says. Without a profile they have nothing.
pub fn bind(inputs: &mut BTreeMap<String, RuleValues>, profile: Option<&Profile>) {
    for (alias, values) in inputs {
        let when = values.when();
        let Some(transforms) = values.transforms_mut() else { continue };
        let tensor = profile.and_then(|profile| profile.inputs.get(alias));
        let needed = transforms.needs_profile() || when == When::Raw;
        transforms.bound = tensor.filter(|_| needed).map(|tensor| Arc::new(Bound::of(tensor)));
    }
}

impl Bound {
    /// What the profile of one input says.
    pub fn of(tensor: &TensorProfile) -> Self {
        let scaler = match &tensor.scaler {
            Some(scaler) => Some(numbers(scaler)),
            None => tensor.raw.as_ref().and_then(|raw| between(raw, &tensor.features)),
        };
        let sides = RawOrProfile::new(tensor);
        let one_row = sides.as_ref().filter(|_| tensor.by == By::Feature).map(RawOrProfile::typical);
        let reach = reach(tensor);
        let ratio = sides.map(|sides| {
            Ratio::new(move |row| if is_within(&reach, row) { sides.log_ratio(row) } else { 0.0 })
        });
        Self { scaler, ratio, one_row }
    }
}

/// Between which values a feature is on one of the sides, or less than its range outside. A row
/// beyond that is neither raw nor scaled, although it may be nearer to raw.
fn reach(tensor: &TensorProfile) -> Vec<(f64, f64)> {
    let wide = |low: f64, high: f64| {
        let range = if high > low { high - low } else { high.abs().max(1.0) };
        (low - range, high + range)
    };
    let raw = |at: usize, feature: &FeatureProfile| match (&tensor.raw, &tensor.scaler) {
        (Some(raw), _) => raw.get(at).map(|raw| (raw.min, raw.max)),
        (None, Some(scaler)) => scaler.affine(at).map(|(factor, offset)| {
            let (one, other) = ((feature.min - offset) / factor, (feature.max - offset) / factor);
            (one.min(other), one.max(other))
        }),
        (None, None) => None,
    };
    let both = |(at, feature): (usize, &FeatureProfile)| {
        let scaled = wide(feature.min, feature.max);
        let raw = raw(at, feature).map_or(scaled, |(low, high)| wide(low, high));
        (raw.0.min(scaled.0), raw.1.max(scaled.1))
    };
    tensor.features.iter().enumerate().map(both).collect()
}

fn is_within(reach: &[(f64, f64)], row: &[f64]) -> bool {
    if reach.is_empty() {
        return false;
    }
    let mut reach = reach.iter().cycle();
    row.iter().all(|value| match reach.next() {
        // A feature without values has no reach.
        Some((low, high)) => !value.is_finite() || low.is_nan() || (*low..=*high).contains(value),
        None => false,
    })
}

/// The same numbers as scikit-learn's `transform` computes, in the same order.
fn numbers(scaler: &Scaler) -> Numbers {
    match scaler {
        Scaler::Standard { mean, scale } | Scaler::Robust { center: mean, scale } => {
            Numbers::Standardize { mean: mean[..].into(), std: scale[..].into() }
        }
        Scaler::MinMax { min, max, to: (low, high) } => {
            let at =
                |list: &[f64], feature: usize| list.get(feature).or(list.first()).copied().unwrap_or(0.0);
            let features = min.len().max(max.len());
            let factor: Vec<f64> =
                (0..features).map(|feature| (high - low) / (at(max, feature) - at(min, feature))).collect();
            let offset = factor.iter().enumerate().map(|(feature, factor)| low - at(min, feature) * factor);
            Numbers::Scale { offset: offset.collect(), factor: factor.into() }
        }
    }
}

/// What leads from the mean and deviation of one side to those of the other. `None` if a feature
/// has no values, or never varies on one side alone.
fn between(raw: &[FeatureProfile], scaled: &[FeatureProfile]) -> Option<Numbers> {
    if raw.len() != scaled.len() {
        return None;
    }
    let one = |(raw, scaled): (&FeatureProfile, &FeatureProfile)| {
        // A feature that never varies is only moved, as a scaler does.
        let std = match (raw.std, scaled.std) {
            (0.0, 0.0) => 1.0,
            (raw, scaled) => raw / scaled,
        };
        let mean = raw.mean - scaled.mean * std;
        (mean.is_finite() && std.is_finite() && std > 0.0).then_some((mean, std))
    };
    let (mean, std): (Vec<f64>, Vec<f64>) = raw.iter().zip(scaled).map(one).collect::<Option<_>>()?;
    Some(Numbers::Standardize { mean: mean.into(), std: std.into() })
}
