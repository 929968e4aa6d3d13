//! Order: channels in reverse, features at other positions.
use super::{Form, Hypothesis, Suspects, spread};
use crate::profile::By;
use crate::profile::finding::{Detail, Mistake};
use crate::sorting;

pub(super) fn propose(suspects: &Suspects<'_>, features: &[usize], all: &mut Vec<Hypothesis>) {
    match suspects.checks.by {
        By::Channel => channels(suspects, features, all),
        By::Feature => permuted(suspects, all),
        By::Whole => {}
    }
}

fn channels(suspects: &Suspects<'_>, features: &[usize], all: &mut Vec<Hypothesis>) {
    // Of RGBA the first three are reversed.
    let middle_or_alpha = |at: &usize| matches!(at, 1 | 3);
    if !matches!(suspects.checks.width(), 3 | 4) || features.iter().any(middle_or_alpha) {
        return;
    }
    let features = features.to_vec();
    let from = features.iter().map(|at| 2 - at).collect();
    let (mistake, form) = (Mistake::ChannelsReversed, Form::From(from));
    all.push(Hypothesis { mistake, detail: Detail::None, features, form });
}

fn permuted(suspects: &Suspects<'_>, all: &mut Vec<Hypothesis>) {
    let checks = suspects.checks;
    let mut features: Vec<usize> = suspects.outside.iter().chain(&suspects.moved).copied().collect();
    features.sort_unstable();
    features.dedup();
    let [first, ..] = suspects.outside.as_slice() else { return };
    let seen = |at: usize| suspects.moments.of(checks, at).unwrap_or((f64::NAN, f64::NAN));
    let expected = |at: usize| (checks.features[at].mean, checks.features[at].std);
    // Who is sent where: the k-th smallest that was seen belongs to the k-th smallest expected one.
    let by_mean = matched(&features, |at| seen(at).0, |at| expected(at).0);
    let by_spread = matched(&features, |at| seen(at).1, |at| expected(at).1);
    let mut orders = vec![by_mean, by_spread];
    if suspects.outside.len() <= 2 {
        // Only two have changed places: the one that fits best in both of them.
        let distance = |at: usize, place: usize| {
            let ((mean, std), (other_mean, other_std)) = (seen(at), expected(place));
            let scale = other_std.max(1e-12 * other_mean.abs()).max(f64::MIN_POSITIVE);
            ((mean - other_mean) / scale).abs() + (std.max(f64::MIN_POSITIVE) / scale).ln().abs()
        };
        let others = (0..checks.width()).filter(|at| at != first);
        let cost = |other: usize| distance(*first, other) + distance(other, *first);
        if let Some(other) = others.min_by(|one, other| cost(*one).total_cmp(&cost(*other))) {
            orders.push(vec![(*first, other), (other, *first)]);
        }
    }
    let mut known: Vec<Vec<(usize, usize)>> = Vec::new();
    for mut order in orders {
        order.retain(|(feature, place)| feature != place);
        order.sort_unstable();
        let explains = |at: &usize| order.binary_search_by_key(at, |(feature, _)| *feature).is_ok();
        if order.is_empty() || known.contains(&order) || !suspects.outside.iter().all(explains) {
            continue;
        }
        let at: Vec<usize> = (0..order.len()).collect();
        let (features, from): (Vec<usize>, Vec<usize>) = spread(&at).iter().map(|at| order[*at]).unzip();
        let detail = Detail::Order(order.iter().take(16).map(|(_, place)| *place).collect());
        all.push(Hypothesis { mistake: Mistake::Permuted, detail, features, form: Form::From(from) });
        known.push(order);
    }
}

/// Pairs of a feature and the position at which it was seen.
fn matched(
    features: &[usize],
    seen: impl Fn(usize) -> f64,
    expected: impl Fn(usize) -> f64,
) -> Vec<(usize, usize)> {
    let sorted = |key: &dyn Fn(usize) -> f64| {
        let mut all = features.to_vec();
        sorting::by(&mut all, |one, other| key(*one).total_cmp(&key(*other)));
        all
    };
    sorted(&expected).into_iter().zip(sorted(&seen)).collect()
}
