//! What differs between two profiles, feature by feature.
use super::{FeatureProfile, QUANTILES, TensorProfile, TextProfile};
use crate::sorting;

/// From here on, a population stability index says that a feature has moved. Below 0.1 it is
/// commonly taken as no change, from 0.25 on as a large one.
pub const MOVED: f64 = 0.1;
/// The smallest share of a bin: an empty one would make the index infinite.
const LEAST: f64 = 1e-4;
/// Other changes that count: of the mean in deviations, of the deviation as a factor, of shares.
const MEAN_MOVED: f64 = 0.25;
const STD_MOVED: f64 = 1.25;
const SHARE_MOVED: f64 = 0.01;

/// How a feature differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    pub feature: usize,
    /// The population stability index; infinite if only one side has values.
    pub psi: f64,
    /// In words, such as `mean 40 -> 52 (+1 std)`. At least one.
    pub what: Vec<String>,
}

/// The features that differ, those with the highest index first. Both have the same number.
pub fn features(before: &[FeatureProfile], after: &[FeatureProfile]) -> Vec<Moved> {
    let mut moved: Vec<Moved> = before
        .iter()
        .zip(after)
        .enumerate()
        .filter_map(|(feature, (before, after))| {
            let psi = psi(before, after);
            let what = words(before, after, psi);
            (!what.is_empty()).then_some(Moved { feature, psi, what })
        })
        .collect();
    sorting::by(&mut moved, |one, other| other.psi.total_cmp(&one.psi).then(one.feature.cmp(&other.feature)));
    moved
}

/// What differs between two sets of strings.
pub fn texts(before: &TextProfile, after: &TextProfile) -> Vec<String> {
    let mut what = Vec::new();
    if (before.empty - after.empty).abs() >= SHARE_MOVED {
        what.push(format!("empty {} -> {}", percent(before.empty), percent(after.empty)));
    }
    let share = |of: &TextProfile, text: &str| {
        of.values.iter().find(|(known, _)| known == text).map(|(_, share)| *share)
    };
    let mut all: Vec<&str> =
        before.values.iter().chain(&after.values).map(|(text, _)| text.as_str()).collect();
    all.sort_unstable();
    all.dedup();
    for text in all {
        let name = text.escape_debug();
        match (share(before, text), share(after, text)) {
            (Some(before), Some(after)) if (before - after).abs() >= SHARE_MOVED => {
                what.push(format!("`{name}` {} -> {}", percent(before), percent(after)));
            }
            (None, Some(share)) if before.complete => {
                what.push(format!("`{name}` is new ({})", percent(share)));
            }
            (Some(_), None) if after.complete => what.push(format!("`{name}` is gone")),
            _ => {}
        }
    }
    let (low, high) = ((before.length.min, before.length.max), (after.length.min, after.length.max));
    if low != high && before.length.has_values() && after.length.has_values() {
        what.push(format!("length {}..{} -> {}..{}", low.0, low.1, high.0, high.1));
    }
    what
}

/// Whether two tensors can be compared feature by feature; otherwise why not.
pub fn layout(before: &TensorProfile, after: &TensorProfile) -> Option<String> {
    if before.dtype != after.dtype {
        return Some(format!("dtype {} -> {}", before.dtype, after.dtype));
    }
    if before.by != after.by {
        return Some(format!("by {} -> by {}", before.by.name(), after.by.name()));
    }
    (before.features.len() != after.features.len())
        .then(|| format!("{} features -> {}", before.features.len(), after.features.len()))
}

fn words(before: &FeatureProfile, after: &FeatureProfile, psi: f64) -> Vec<String> {
    let mut what = Vec::new();
    let pair = |before: f64, after: f64| format!("{} -> {}", short(before), short(after));
    if before.has_values() && after.has_values() {
        let moves = (after.mean - before.mean) / before.std;
        let mean_moved = moves.abs() >= MEAN_MOVED || before.std == 0.0 && before.mean != after.mean;
        if mean_moved {
            let by = if moves.is_finite() { format!(" ({moves:+.1} std)") } else { String::new() };
            what.push(format!("mean {}{by}", pair(before.mean, after.mean)));
        }
        let (narrow, wide) = (before.std.min(after.std), before.std.max(after.std));
        if wide > 0.0 && wide / narrow >= STD_MOVED {
            what.push(format!("std {}", pair(before.std, after.std)));
        }
        if psi >= MOVED && what.is_empty() {
            what.push(format!("median {}", pair(before.quantiles[3], after.quantiles[3])));
        }
    } else if before.has_values() != after.has_values() {
        what.push(if after.has_values() { "has values now" } else { "has no values now" }.to_owned());
    }
    for (name, before, after) in [
        ("missing", before.missing, after.missing),
        ("infinite", before.non_finite, after.non_finite),
        ("whole", before.integral, after.integral),
        ("zero", before.zero, after.zero),
    ] {
        if (before - after).abs() >= SHARE_MOVED {
            what.push(format!("{name} {} -> {}", percent(before), percent(after)));
        }
    }
    if !before.values.is_empty() && !after.values.is_empty() {
        let absent = |of: &[(f64, f64)], from: &[(f64, f64)]| {
            let values = of.iter().filter(|(value, _)| !from.iter().any(|(known, _)| known == value));
            let values: Vec<String> = values.map(|(value, _)| short(*value)).collect();
            let more = values.len().saturating_sub(5);
            let shown = values.get(..values.len() - more).unwrap_or_default().join(", ");
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            (!shown.is_empty()).then(|| shown + &rest)
        };
        what.extend(absent(&after.values, &before.values).map(|values| format!("new values {values}")));
        what.extend(absent(&before.values, &after.values).map(|values| format!("no more {values}")));
    }
    if psi >= MOVED && what.is_empty() {
        what.push("other shares of its values".to_owned());
    }
    what
}

/// The population stability index: the sum of (a - b) ln(a / b) over bins. The bins are the values
/// of a feature of few, else the quantiles of the first side.
pub fn psi(before: &FeatureProfile, after: &FeatureProfile) -> f64 {
    match (before.has_values(), after.has_values()) {
        (false, false) => return 0.0,
        (true, true) => {}
        _ => return f64::INFINITY,
    }
    if !before.values.is_empty() && !after.values.is_empty() {
        let share = |of: &[(f64, f64)], value: f64| {
            of.iter().find(|(known, _)| *known == value).map_or(0.0, |(_, share)| *share)
        };
        let mut values: Vec<f64> =
            before.values.iter().chain(&after.values).map(|(value, _)| *value).collect();
        sorting::by(&mut values, f64::total_cmp);
        values.dedup();
        return values
            .into_iter()
            .map(|value| index(share(&before.values, value), share(&after.values, value)))
            .sum();
    }
    let mut sum = 0.0;
    let mut last = (0.0, 0.0);
    let mut edges: Vec<f64> = before.quantiles.to_vec();
    edges.dedup();
    for edge in edges.into_iter().map(Some).chain([None]) {
        // Several quantiles may be one value; what is below it and what it is are one bin.
        let below = edge.map_or((1.0, 1.0), |edge| (share_below(before, edge), share_below(after, edge)));
        sum += index(below.0 - last.0, below.1 - last.1);
        last = below;
    }
    sum
}

fn index(before: f64, after: f64) -> f64 {
    let (before, after) = (before.max(LEAST), after.max(LEAST));
    (before - after) * (before / after).ln()
}

/// The share of values that are not above one, straight between the quantiles.
pub fn share_below(of: &FeatureProfile, at: f64) -> f64 {
    let points = [(of.min, 0.0)];
    let quantiles = of.quantiles.iter().copied().zip(QUANTILES);
    let mut before = (f64::NEG_INFINITY, 0.0);
    for (value, share) in points.into_iter().chain(quantiles).chain([(of.max, 1.0)]) {
        if at < value {
            let width = value - before.0;
            let part = if width.is_finite() && width > 0.0 { (at - before.0) / width } else { 0.0 };
            return before.1 + part * (share - before.1);
        }
        before = (value, share);
    }
    1.0
}

/// A number with four digits, as people write it.
pub fn short(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let rounded: f64 = format!("{value:.3e}").parse().unwrap_or(value);
    let size = rounded.abs();
    if size != 0.0 && !(1e-3..1e7).contains(&size) { format!("{rounded:e}") } else { rounded.to_string() }
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 => "0 %".to_owned(),
        _ if percent < 0.1 => "<0.1 %".to_owned(),
        _ if percent >= 10.0 => format!("{percent:.0} %"),
        _ => format!("{percent:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::describe::{Numbers, Texts};

    fn profile(values: impl Iterator<Item = f64>) -> FeatureProfile {
        let mut numbers = Numbers::default();
        values.for_each(|value| numbers.add(value));
        numbers.profile()
    }

    fn uniform(from: f64, to: f64) -> FeatureProfile {
        profile((0..10_000).map(|at| from + (to - from) * (f64::from(at) + 0.5) / 10_000.3))
    }

    #[test]
    fn the_index_is_that_of_the_shares_between_the_quantiles() {
        let (before, after) = (uniform(0.0, 1.0), uniform(0.0, 2.0));
        assert!(psi(&before, &before) < 1e-6);
        // Half of the new values are in the old bins, each with half of its share, and the other
        // half is above the 99 % quantile.
        let bins = [0.01, 0.04, 0.2, 0.25, 0.25, 0.2, 0.04];
        let expected: f64 =
            bins.iter().map(|share| index(*share, share / 2.0)).sum::<f64>() + index(0.01, 0.505);
        assert!((psi(&before, &after) - expected).abs() < 0.02, "{} {expected}", psi(&before, &after));
    }

    #[test]
    fn equal_profiles_do_not_differ() {
        for feature in
            [uniform(-3.0, 5.0), profile([1.0, 1.0, 2.0].into_iter()), profile([f64::NAN].into_iter())]
        {
            assert_eq!(features(std::slice::from_ref(&feature), std::slice::from_ref(&feature)), []);
        }
    }

    #[test]
    fn what_moved_is_said_in_words() {
        let what = |before: &FeatureProfile, after: &FeatureProfile| {
            features(std::slice::from_ref(before), std::slice::from_ref(after)).remove(0).what.join(", ")
        };
        assert_eq!(
            what(&uniform(0.0, 1.0), &uniform(0.0, 2.0)),
            "mean 0.5 -> 1 (+1.7 std), std 0.2887 -> 0.5773"
        );
        let flags = profile([0.0, 1.0, 1.0, 1.0].into_iter());
        let more = profile([0.0, 1.0, 2.0, 1.0].into_iter());
        assert_eq!(what(&flags, &more), "mean 0.75 -> 1 (+0.6 std), std 0.433 -> 0.7071, new values 2");
        let missing = profile((0..100).map(|at| if at % 2 == 0 { f64::NAN } else { f64::from(at) + 0.5 }));
        let present = profile((0..100).map(|at| f64::from(at) + 0.5));
        assert_eq!(what(&missing, &present), "missing 50 % -> 0 %");
        assert_eq!(
            what(&present, &profile([f64::NAN].into_iter())),
            "has no values now, missing 0 % -> 100 %"
        );
    }

    #[test]
    fn strings_that_come_and_go_are_named() {
        let of = |words: &[&str]| {
            let mut texts = Texts::default();
            for word in words {
                texts.add(word.as_bytes());
            }
            texts.profile()
        };
        let found = texts(&of(&["de", "fr", "de", "fr"]), &of(&["de", "fra", "de", "de"]));
        assert_eq!(
            found,
            ["`de` 50 % -> 75 %", "`fr` is gone", "`fra` is new (25 %)", "length 2..2 -> 2..3"]
        );
    }
}
