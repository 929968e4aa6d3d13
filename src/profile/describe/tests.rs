//! The statistics are those of the values, whatever their order, scale and number.
use super::*;
use crate::profile::{FeatureProfile, QUANTILES};

/// A number from 0 to 1 that depends on the index only: SplitMix64.
fn uniform(index: u64) -> f64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

fn normal(index: u64) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(2 * index)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(2 * index + 1)).cos()
}

fn profile(values: &[f64]) -> FeatureProfile {
    let mut numbers = Numbers::default();
    for value in values {
        numbers.add(*value);
    }
    numbers.profile()
}

/// The largest difference between a share of [`QUANTILES`] and the share of values below its
/// estimate.
fn rank_error(values: &[f64], profile: &FeatureProfile) -> f64 {
    let count = values.len() as f64;
    let below = |at: f64| values.iter().filter(|value| **value < at).count() as f64 / count;
    QUANTILES.iter().zip(profile.quantiles).map(|(share, at)| (below(at) - share).abs()).fold(0.0, f64::max)
}

#[test]
fn moments_survive_a_large_offset() {
    // Times in seconds: the squares have more digits than a double.
    let offset = 1.7e9;
    let values: Vec<f64> = (0..100_000).map(|at| offset + (at % 10) as f64 + 0.5).collect();
    let profile = profile(&values);
    assert!((profile.mean - (offset + 5.0)).abs() < 2e-3, "{}", profile.mean);
    assert!((profile.std - 8.25_f64.sqrt()).abs() < 1e-6, "{}", profile.std);
    assert!(rank_error(&values, &profile) <= 0.1 + 1e-9, "{:?}", profile.quantiles);
}

#[test]
fn quantiles_are_within_the_error_of_the_digest() {
    type Shape = fn(u64) -> f64;
    let shapes: [(&str, Shape); 6] = [
        ("normal", normal),
        ("offset", |at| 2020.0 + 0.01 * normal(at)),
        ("heavy tail", |at| (1.0 - uniform(at)).powi(-3)),
        ("log normal", |at| (2.0 * normal(at)).exp()),
        ("tiny", |at| 1e-12 * normal(at)),
        ("ascending", |at| at as f64 + 0.5),
    ];
    for (name, shape) in shapes {
        let values: Vec<f64> = (0..100_000).map(shape).collect();
        let profile = profile(&values);
        let error = rank_error(&values, &profile);
        assert!(error < 0.003, "{name}: {error} {profile:?}");
        assert!(profile.values.is_empty());
    }
}

#[test]
fn few_whole_values_are_counted_and_their_quantiles_are_exact() {
    let values: Vec<f64> = (0..1000).map(|at| if at % 10 == 0 { 7.0 } else { -0.0 }).collect();
    let profile = profile(&values);
    assert_eq!(profile.values, [(0.0, 0.9), (7.0, 0.1)]);
    assert_eq!(profile.quantiles, [0.0, 0.0, 0.0, 0.0, 0.0, 7.0, 7.0]);
    assert_eq!((profile.integral, profile.zero), (1.0, 0.9));
    assert!((profile.mean - 0.7).abs() < 1e-12 && (profile.std - 2.1).abs() < 1e-8, "{profile:?}");
    let many: Vec<f64> = (0..257).map(f64::from).collect();
    assert_eq!(self::profile(&many).values, []);
    assert_eq!(self::profile(many.get(..256).unwrap()).values.len(), 256);
}

#[test]
fn values_that_are_no_numbers_are_counted_apart() {
    let found = profile(&[f64::NAN, f64::INFINITY, 1.0, 2.5, f64::NEG_INFINITY, f64::NAN, 3.0, 0.0]);
    assert_eq!((found.count, found.missing, found.non_finite), (8, 0.25, 0.25));
    assert_eq!((found.integral, found.zero, found.min, found.max), (0.75, 0.25, 0.0, 3.0));
    assert_eq!(found.mean, 1.625);
    let none = profile(&[f64::NAN]);
    assert!(!none.has_values() && none.missing == 1.0);
}

#[test]
fn sums_beyond_a_double_leave_the_statistics_finite() {
    let found = profile(&[f64::MAX, -f64::MAX, f64::MAX, -f64::MAX, 1.5]);
    assert!(found.mean.is_finite() && found.std.is_finite(), "{found:?}");
    let mut stats = TensorStats::new(DataType::DOUBLE, By::Whole, 1);
    stats.add(0, &[f64::MAX, -f64::MAX, 0.5]);
    let tensor = stats.profile();
    let profile = crate::profile::Profile { inputs: [("x".to_owned(), tensor)].into(), ..Default::default() };
    assert_eq!(crate::profile::Profile::from_yaml(&profile.to_yaml()), Ok(profile));
}

#[test]
fn merged_statistics_are_those_of_all_values() {
    let value = |at: u64| 5.0 + normal(at) * if at.is_multiple_of(3) { 2.0 } else { 1.0 };
    let values: Vec<f64> = (0..30_000).map(value).collect();
    let mut all = Numbers::default();
    for value in &values {
        all.add(*value);
    }
    let mut merged = Numbers::default();
    for part in values.chunks(7_001) {
        let mut numbers = Numbers::default();
        for value in part {
            numbers.add(*value);
        }
        merged.merge(&mut numbers);
    }
    let (all, merged) = (all.profile(), merged.profile());
    assert!((all.mean - merged.mean).abs() < 1e-9 && (all.std - merged.std).abs() < 1e-8);
    assert_eq!((all.min, all.max, all.count), (merged.min, merged.max, merged.count));
    assert!(rank_error(&values, &merged) < 0.003);
}

#[test]
fn each_value_belongs_to_its_feature() {
    let mut stats = TensorStats::new(DataType::FLOAT, By::Feature, 3);
    stats.add(0, &[1.0, 20.0, 300.0, 1.0]);
    stats.add(4, &[20.0, 300.0]);
    stats.add_to(1, &[20.0]);
    let profile = stats.profile();
    let means: Vec<f64> = profile.features.iter().map(|feature| feature.mean).collect();
    assert_eq!(means, [1.0, 20.0, 300.0]);
    assert_eq!(profile.features.iter().map(|feature| feature.count).collect::<Vec<_>>(), [2, 3, 2]);
}

#[test]
fn the_most_frequent_strings_are_found_in_bounded_memory() {
    let mut texts = Texts::default();
    for at in 0..200_000_u64 {
        match at % 10 {
            0..=3 => texts.add(b"common"),
            4 => texts.add(b"second"),
            _ => texts.add(format!("rare {at}").as_bytes()),
        }
    }
    assert!(texts.bytes() < 400_000, "{}", texts.bytes());
    let profile = texts.profile();
    let names: Vec<&str> = profile.values.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(names, ["common", "second"]);
    assert!((profile.values[0].1 - 0.4).abs() < 1e-3, "{:?}", profile.values);
    assert!(!profile.complete);
}

#[test]
fn few_strings_are_the_whole_set() {
    let mut texts = Texts::default();
    let mut more = Texts::default();
    for text in ["de", "fr", "de", ""] {
        texts.add(text.as_bytes());
        more.add(text.as_bytes());
    }
    texts.merge(&more);
    let profile = texts.profile();
    assert_eq!(profile.values, [("de".to_owned(), 0.5), (String::new(), 0.25), ("fr".to_owned(), 0.25)]);
    assert!(profile.complete && profile.empty == 0.25 && profile.count == 8 && profile.length.max == 2.0);
    texts.add(b"\xff");
    assert!(!texts.profile().complete);
    texts.add(&[b'a'; 300]);
    assert_eq!(texts.profile().values.len(), 3);
}
