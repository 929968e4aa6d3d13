//! Token ids of another vocabulary.
use super::{Form, Hypothesis, Suspects};
use crate::profile::finding::{Detail, Mistake};

pub(super) fn propose(suspects: &Suspects<'_>, features: &[usize], all: &mut Vec<Hypothesis>) {
    let checks = suspects.checks;
    if suspects.outside.is_empty() || !checks.has_ids() {
        return;
    }
    // Three deviations above the mean are near the largest id, or above it.
    let bound = |at: &usize| suspects.moments.of(checks, *at).map(|(mean, std)| mean + 3.0 * std);
    let most = features.iter().filter_map(bound).fold(0.0, f64::max);
    let (mistake, detail) = (Mistake::Vocabulary, Detail::None);
    all.push(Hypothesis { mistake, detail, features: features.to_vec(), form: Form::Ids(most) });
}
