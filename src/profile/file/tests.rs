//! Profiles are read as they were written, and mistakes are reported with key and place.
use std::collections::BTreeMap;

use super::*;
use crate::profile::{By, FeatureProfile, Scaler, TensorProfile, TextProfile};
use crate::tensor::DataType;

fn feature(mean: f64) -> FeatureProfile {
    FeatureProfile {
        count: 1000,
        missing: 0.001,
        non_finite: 0.0,
        min: mean - 4.25,
        max: mean + 1e300,
        mean,
        std: 0.1 + 0.2,
        quantiles: [-2.0, -1.5, -0.5, 0.0, 0.5, 1.5, 2.0].map(|at| mean + at),
        integral: 0.25,
        zero: 0.125,
        values: Vec::new(),
    }
}

fn tensor(features: Vec<FeatureProfile>) -> TensorProfile {
    TensorProfile {
        dtype: DataType::FLOAT,
        by: By::Feature,
        features,
        names: Vec::new(),
        raw: None,
        scaler: None,
        text: None,
    }
}

fn sample() -> Profile {
    let scaled = TensorProfile {
        names: vec!["age".to_owned(), "income, in €".to_owned()],
        raw: Some(vec![feature(40.0), feature(3e4)]),
        scaler: Some(Scaler::Standard { mean: vec![40.0, 3e4], scale: vec![11.5] }),
        ..tensor(vec![feature(0.0), feature(1e-9)])
    };
    let flag = FeatureProfile {
        min: 0.0,
        max: 1.0,
        mean: 0.25,
        std: 0.4,
        quantiles: [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0],
        values: vec![(0.0, 0.75), (1.0, 0.25)],
        ..feature(0.0)
    };
    let flags = TensorProfile { dtype: DataType::BOOL, by: By::Whole, ..tensor(vec![flag]) };
    let nothing = FeatureProfile { count: 5, missing: 1.0, ..FeatureProfile::empty() };
    let words = ["yes", "12", "", "naïve \"x\" \\ \u{7}\u{2028}\u{fe0f}", "a: b #c", "- x", "~", "{a}"];
    let country = TensorProfile {
        dtype: DataType::STRING,
        by: By::Whole,
        text: Some(TextProfile {
            count: 7,
            empty: 0.1,
            length: FeatureProfile { min: 0.0, max: 20.0, mean: 2.0, quantiles: [1.0; 7], ..feature(0.0) },
            values: words.iter().map(|word| ((*word).to_owned(), 0.125)).collect(),
            complete: true,
        }),
        ..tensor(Vec::new())
    };
    let images = TensorProfile {
        by: By::Channel,
        scaler: Some(Scaler::MinMax { min: vec![0.0], max: vec![255.0], to: (-1.0, 1.0) }),
        ..tensor(vec![feature(0.1), feature(0.2), feature(0.3)])
    };
    let robust = Scaler::Robust { center: vec![1.0], scale: vec![2.0] };
    let inputs = [
        ("dense_input", scaled),
        ("is new", flags),
        ("on", country),
        ("image", images),
        ("empty", TensorProfile { scaler: Some(robust), ..tensor(vec![nothing.clone()]) }),
    ];
    Profile {
        model: Some("fraud".to_owned()),
        signature: Some("serving_default".to_owned()),
        rows: 1000,
        sources: vec!["data/train.npz".to_owned(), "more data.csv".to_owned()],
        inputs: inputs.into_iter().map(|(name, of)| (name.to_owned(), of)).collect(),
        outputs: BTreeMap::from([("y".to_owned(), tensor(vec![feature(0.5)]))]),
    }
}

#[test]
fn a_profile_is_read_as_it_was_written() {
    let text = sample().to_yaml();
    let read = Profile::from_yaml(&text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    // NaN differs from itself, so the texts are compared too.
    assert_eq!(read.to_yaml(), text);
    let without = |mut profile: Profile| {
        profile.inputs.remove("empty");
        profile
    };
    assert_eq!(without(read), without(sample()));
}

#[test]
fn a_profile_without_inputs_is_read_too() {
    let nothing = Profile::default();
    assert_eq!(Profile::from_yaml(&nothing.to_yaml()), Ok(nothing));
}

/// YAML has a limit on keys without a question mark, which escapes reach.
#[test]
fn a_name_of_control_characters_is_read_as_it_was_written() {
    let flags = sample().inputs.remove("is new").unwrap();
    for name in
        ["\u{12}".repeat(256), "\u{fffd}".repeat(85), "a b".repeat(85), "?".to_owned(), ": ".to_owned()]
    {
        let inputs = BTreeMap::from([(name, flags.clone())]);
        let profile = Profile { inputs, ..Profile::default() };
        assert_eq!(Profile::from_yaml(&profile.to_yaml()), Ok(profile));
    }
}

#[test]
fn the_profile_in_the_documentation_is_read() {
    let page = include_str!("../../../docs/preprocessing.md");
    let block = page.split("```yaml profile\n").nth(1).unwrap().split("```").next().unwrap();
    let profile = Profile::from_yaml(block).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(profile.inputs.len(), 2);
}

#[test]
fn a_feature_is_one_line() {
    let text = sample().to_yaml();
    let line = text.lines().find(|line| line.contains("age")).unwrap();
    assert_eq!(
        line,
        "      - {name: age, count: 1000, min: -4.25, max: 1e300, mean: 0, std: 0.30000000000000004, \
         quantiles: [-2, -1.5, -0.5, 0, 0.5, 1.5, 2], missing: 0.001, integral: 0.25, zero: 0.125}"
    );
}

/// The problems of the sample after a text in it was replaced.
fn problems(from: &str, to: &str) -> String {
    let text = sample().to_yaml();
    assert!(text.contains(from), "{from}\n{text}");
    Profile::from_yaml(&text.replacen(from, to, 1)).map(|_| String::new()).unwrap_err().to_string()
}

#[test]
fn a_mistake_is_reported_with_its_key_and_place() {
    for (from, to, expected) in [
        ("profile: 1", "profile: 2", "1:10: `profile`: expected the version 1, got `2`"),
        ("profile: 1", "mode: repair", "1:1: this is no profile: the key `profile: 1` is missing"),
        (
            "rows: 1000",
            "row: 1000",
            "1:1: the key `rows` is missing\n4:6: `row`: unknown key (did you mean `rows`?)",
        ),
        (
            "dtype: float",
            "dtype: resource",
            "10:12: `inputs.dense_input.dtype`: expected a dtype of real numbers, bool or string, got `resource`",
        ),
        (
            "min: -4.25",
            "min: 4.25",
            "13:9: `inputs.dense_input.features[0]`: `mean` is not between `min` and `max`",
        ),
        ("max: 1e300", "max: -5", "13:9: `inputs.dense_input.features[0]`: `min` is above `max`"),
        (
            "min: -4.25",
            "min: low",
            "13:39: `inputs.dense_input.features[0].min`: expected a number, got `low`",
        ),
        (
            "min: -4.25",
            "min: '-4.25'",
            "13:39: `inputs.dense_input.features[0].min`: expected a number, got `-4.25`",
        ),
        (
            "missing: 0.001",
            "missing: 1.5",
            "`inputs.dense_input.features[0].missing`: expected a share from 0 to 1, got `1.5`",
        ),
        (
            "quantiles: [-2, -1.5",
            "quantiles: [2, -1.5",
            "quantiles must ascend, and be between `min` and `max`",
        ),
        ("quantiles: [-2, -1.5, ", "quantiles: [", "expected 7 numbers"),
        ("by: feature", "by: row", "expected `feature` or `channel` or `whole`, got `row`"),
        ("    by: feature\n", "", "expected 1 feature, as `by` is not `feature` or `channel`, got 2"),
        ("name: age, ", "", "`inputs.dense_input.features`: some features have a `name` and some have none"),
        ("scale: [11.5]", "scale: [0]", "the scaler cannot be computed for feature 0 (a scale of 0?)"),
        (
            "scale: [11.5]",
            "scale: [1, 2, 3]",
            "`inputs.dense_input.scaler.scale`: expected 1 number or 2, one for each feature, got 3",
        ),
        ("values: [[0, 0.75], [1, 0.25]]", "values: [[1, 0.75], [0, 0.25]]", "values must ascend"),
        (
            "values: [[0, 0.75], [1, 0.25]]",
            "values: [[0, 0.75], [1, 0.75]]",
            "the shares are more than 1 together",
        ),
        ("kind: standard", "kind: log", "expected `standard` or `min_max` or `robust`, got `log`"),
        ("outputs:", "inputs:", "duplicate key"),
        ("rows: 1000", "rows: [", "invalid YAML"),
    ] {
        let found = problems(from, to);
        assert!(found.contains(expected), "{to}: {found}");
    }
}

#[test]
fn a_file_beyond_a_limit_is_refused() {
    let wide = Profile {
        inputs: BTreeMap::from([("x".to_owned(), tensor(vec![feature(0.0); 4096]))]),
        ..Profile::default()
    };
    let text = wide.to_yaml();
    assert_eq!(Profile::from_yaml(&text), Ok(wide.clone()));
    let line = text.lines().last().unwrap();
    let found = Profile::from_yaml(&format!("{text}{line}\n")).unwrap_err().to_string();
    assert!(found.contains("`inputs.x.features`: 4097 items (limit 4096)"), "{found}");
    let found = Profile::from_yaml(&" ".repeat(MAX_FILE_BYTES + 1)).unwrap_err().to_string();
    assert_eq!(found, "1:1: the file has 67108865 bytes (limit 67108864)");
    let many = format!("profile: 1\nrows: 1\ninputs: {{}}\n{}", "x: &a b\n".repeat(100));
    assert_eq!(Profile::from_yaml(&many).unwrap_err().0.len(), MAX_PROBLEMS);
}
