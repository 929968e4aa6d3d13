//! Ranges: 0 to 255 for 0 to 1 and the reverse, -1 to 1 for 0 to 1 and the reverse.
use super::{Form, Hypothesis, Suspects};
use crate::profile::finding::{Detail, Mistake};

/// What a range may exceed its ends by.
const SLACK: f64 = 0.01;

pub(super) fn propose(suspects: &Suspects<'_>, features: &[usize], all: &mut Vec<Hypothesis>) {
    let mut add = |mistake, factor, offset| {
        let form = Form::Affine(vec![(factor, offset); features.len()]);
        all.push(Hypothesis { mistake, detail: Detail::None, features: features.to_vec(), form });
    };
    add(Mistake::Times255, 1.0 / 255.0, 0.0);
    add(Mistake::Over255, 255.0, 0.0);
    let within = |low: f64, high: f64| {
        features.iter().all(|at| {
            let profile = &suspects.checks.features[*at];
            profile.min >= low - SLACK && profile.max <= high + SLACK
        })
    };
    let reaches = |low: f64| features.iter().any(|at| suspects.checks.features[*at].min <= low);
    if within(0.0, 1.0) {
        add(Mistake::SymmetricForUnit, 0.5, 0.5);
    } else if within(-1.0, 1.0) && reaches(-0.5) {
        add(Mistake::UnitForSymmetric, 2.0, -1.0);
    }
}
