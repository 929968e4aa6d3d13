//! Units: a few features are multiplied by a power of ten.
use super::{Form, Hypothesis, Suspects};
use crate::profile::finding::{Detail, Mistake};

/// More features than this do not change their unit at once.
const MAX_FEATURES: usize = 3;

pub(super) fn propose(suspects: &Suspects<'_>, features: &[usize], all: &mut Vec<Hypothesis>) {
    // A change that leaves the range is needed: within it, a smaller value is a value.
    if suspects.outside.is_empty() || features.len() > MAX_FEATURES {
        return;
    }
    let Some(&first) = features.first() else { return };
    let Some((mean, std)) = suspects.moments.of(suspects.checks, first) else { return };
    let profile = &suspects.checks.features[first];
    let power = (mean.hypot(std) / profile.mean.hypot(profile.std)).log10().round();
    if !power.is_finite() || power.abs() > 12.0 {
        return;
    }
    let power = power as i32;
    // Heavy tails make the ratio of the moments inexact.
    for power in (power - 1..=power + 1).filter(|power| *power != 0) {
        let form = Form::Affine(vec![(10_f64.powi(-power), 0.0); features.len()]);
        let detail = Detail::PowerOfTen(power);
        all.push(Hypothesis { mistake: Mistake::Unit, detail, features: features.to_vec(), form });
    }
}
