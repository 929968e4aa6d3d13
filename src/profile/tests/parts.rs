//! The parts of the checks one by one, and the generated part of docs/preprocessing.md.
use super::data::{Random, profile};
use crate::profile::evidence::Evidence;
use crate::profile::{
    AnswerWatch, By, CONSTANT_AFTER, CallerFinding, Checks, Detail, FeatureProfile, Kind, Mistake, Sample,
    Scaler, TextProfile, Window, hash_values, raw_against_profile, texts,
};
use crate::tensor::DataType;

/// Compares the text between the marks of docs/preprocessing.md, or writes it when `UPDATE` is set.
pub(super) fn between_marks(text: &str) {
    const PATH: &str = "docs/preprocessing.md";
    const MARKS: (&str, &str) = ("<!-- corpus -->\n", "<!-- end of corpus -->\n");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PATH);
    let whole = std::fs::read_to_string(path).unwrap();
    let (before, rest) = whole.split_once(MARKS.0).expect("the first mark");
    let (_, after) = rest.split_once(MARKS.1).expect("the second mark");
    let expected = format!("{before}{}{text}{}{after}", MARKS.0, MARKS.1);
    crate::generated::assert_file(PATH, &expected);
}

#[test]
fn constant_and_broken_answers_are_found() {
    let mut watch = AnswerWatch::default();
    let mut out = Vec::new();
    watch.add(1, &[0.5, f64::NAN], true, &mut out);
    assert_eq!((out.len(), out[0].kind), (1, Kind::AnswerNotFinite));
    out.clear();
    // The same request again and again has the same answer.
    for _ in 0..1000 {
        watch.add(7, &[0.5, 0.25], true, &mut out);
    }
    // A label may be the same for all.
    for request in 0..1000 {
        watch.add(hash_values(&[f64::from(request)]), &[1.0], false, &mut out);
    }
    assert!(out.is_empty());
    for request in 0..2 * CONSTANT_AFTER {
        watch.add(hash_values(&[f64::from(request)]), &[0.125], true, &mut out);
    }
    assert_eq!(out.first().map(|finding| finding.kind), Some(Kind::AnswerConstant));
    out.clear();
    watch.add(3, &[0.126], true, &mut out);
    assert!(out.is_empty(), "another answer ends it");
}

#[test]
fn evidence_under_the_null_rarely_grows() {
    // Ville: the share of runs that ever reach k is at most 1/k, however long they are.
    for p0 in [0.02, 0.25, 0.6] {
        let mut random = Random::new(9);
        let runs = 4000;
        let mut reached = [0; 3];
        for _ in 0..runs {
            let (mut evidence, mut most) = (Evidence::new(p0), 0.0_f64);
            for _ in 0..200 {
                evidence.add(random.unit() < p0);
                most = most.max(evidence.log());
            }
            for (reached, k) in reached.iter_mut().zip([10.0_f64, 100.0, 1000.0]) {
                *reached += u32::from(most >= k.ln());
            }
        }
        for (reached, k) in reached.iter().zip([10.0, 100.0, 1000.0]) {
            let (bound, deviation) = (f64::from(runs) / k, (f64::from(runs) / k).sqrt());
            assert!(f64::from(*reached) <= bound + 3.0 * deviation, "{p0}: {reached} reach {k}");
        }
    }
}

fn normal(features: usize, seed: u64) -> Checks {
    let mut random = Random::new(seed);
    let rows: Vec<Vec<f64>> = (0..300).map(|_| (0..features).map(|_| random.normal()).collect()).collect();
    Checks::new(&profile(&rows, By::Feature, DataType::FLOAT, features)).unwrap()
}

#[test]
fn the_memory_of_a_window_depends_on_the_features_alone() {
    for (features, most) in [(10, 4 << 10), (128, 14 << 10), (4096, 400 << 10)] {
        let checks = normal(features, 1);
        let mut window = Window::new(&checks);
        let empty = window.bytes();
        assert!(empty <= most, "{features} features: {empty} bytes");
        let mut random = Random::new(2);
        // All is excluded, so that a trial is under way: it looks at 64 features at most.
        for _ in 0..30 {
            let row: Vec<f64> = (0..features).map(|_| 90.0 + random.normal()).collect();
            window.add(&checks, &Sample::of_rows(features, &row));
        }
        assert!(window.bytes() <= empty + (160 << 10), "{features} features: {} bytes", window.bytes());
    }
}

#[test]
fn a_sample_of_another_shape_is_ignored() {
    let checks = normal(4, 3);
    let mut window = Window::new(&checks);
    let mut out = Vec::new();
    for sample in [Sample::of_rows(3, &[1e9; 6]), Sample::default(), Sample::of_rows(5, &[f64::NAN; 5])] {
        window.add(&checks, &sample);
        checks.rows(&sample, &mut out);
    }
    assert!(out.is_empty() && window.rows() == 0 && window.verdict().is_none());
}

#[test]
fn raw_and_scaled_that_coincide_tell_nothing() {
    let rows: Vec<Vec<f64>> = (0..500).map(|at| vec![f64::from(at) / 500.0; 6]).collect();
    let mut of = profile(&rows, By::Feature, DataType::FLOAT, 6);
    assert!(raw_against_profile(&of, &[0.5; 6]).abs() < f64::EPSILON);
    of.raw = Some(of.features.clone());
    let checks = Checks::new(&of).unwrap();
    let both = checks.raw_or_profile().unwrap();
    assert!(!both.one_row_can_tell() && both.typical().abs() < 1e-9);
    for value in [-3.0, 0.2, 0.999, 7e9, f64::NAN, f64::INFINITY] {
        assert!(both.log_ratio(&[value; 6]).abs() < 1e-9, "{value}");
    }
}

#[test]
fn one_value_never_decides() {
    let mut random = Random::new(5);
    let rows: Vec<Vec<f64>> = (0..5000).map(|_| vec![random.normal()]).collect();
    let mut of = profile(&rows, By::Feature, DataType::FLOAT, 1);
    of.scaler = Some(Scaler::Standard { mean: vec![1000.0], scale: vec![5.0] });
    for value in [999.0, 1e4, -1e300, 1e300, 0.0, 4.9] {
        let ratio = raw_against_profile(&of, &[value]);
        assert!(ratio.abs() < 6.91, "{value}: {ratio}");
    }
    assert!(!Checks::new(&of).unwrap().raw_or_profile().unwrap().one_row_can_tell());
}

#[test]
fn a_mistake_must_explain_every_affected_feature() {
    let scaler = Scaler::Standard { mean: vec![500.0; 5], scale: vec![2.0; 5] };
    let mut random = Random::new(6);
    let rows: Vec<Vec<f64>> = (0..3000).map(|_| (0..5).map(|_| random.normal()).collect()).collect();
    let mut of = profile(&rows, By::Feature, DataType::FLOAT, 5);
    of.scaler = Some(scaler);
    let checks = Checks::new(&of).unwrap();
    for unexplained in [false, true] {
        let mut window = Window::new(&checks);
        for _ in 0..300 {
            let mut row: Vec<f64> = (0..5).map(|_| 500.0 + 2.0 * random.normal()).collect();
            if unexplained {
                row[4] = 90.0 + random.normal();
            }
            window.add(&checks, &Sample::of_rows(5, &row));
        }
        let found = window.verdict().map(|found| (found.mistake, found.affected, found.total));
        assert_eq!(found, (!unexplained).then_some((Mistake::NotScaled, 5, 5)));
    }
    let finding = CallerFinding {
        mistake: Mistake::NotScaled,
        features: vec![0],
        names: vec!["0".into()],
        affected: 10,
        total: 10,
        rows: 40,
        log10_ratio: 99.0,
        detail: Detail::Scaler("StandardScaler"),
    };
    assert_eq!(
        finding.text("input_tensor"),
        "sends `input_tensor` unscaled: 10 of 10 features match the training data before StandardScaler; \
         apply the scaler in the client or declare `transform: standardize`"
    );
}

#[test]
fn a_mistake_must_bring_the_values_back() {
    let mut random = Random::new(7);
    let rows: Vec<Vec<f64>> = (0..3000).map(|_| (0..5).map(|_| random.normal()).collect()).collect();
    let mut of = profile(&rows, By::Feature, DataType::FLOAT, 5);
    of.scaler = Some(Scaler::Standard { mean: vec![500.0; 5], scale: vec![2.0; 5] });
    let checks = Checks::new(&of).unwrap();
    // One in eight raw values of each feature is nowhere near the training data.
    for stray in [false, true] {
        let mut window = Window::new(&checks);
        for at in 0..400 {
            let mut value = |feature: u64| {
                let is_stray = stray && at % 8 == feature;
                if is_stray { 900.0 + at as f64 } else { 500.0 + 2.0 * random.normal() }
            };
            let row: Vec<f64> = (0..5).map(&mut value).collect();
            window.add(&checks, &Sample::of_rows(5, &row));
        }
        assert_eq!(window.verdict().is_none(), stray, "{:?}", window.verdict());
    }
}

#[test]
fn a_string_is_unknown_only_where_all_strings_are_known() {
    let text = |values: &[(&str, f64)], count, empty| TextProfile {
        count,
        empty,
        length: FeatureProfile::empty(),
        values: values.iter().map(|(text, share)| ((*text).to_owned(), *share)).collect(),
        complete: true,
    };
    let found = |profile: &TextProfile, strings: &[&str]| {
        let mut out = Vec::new();
        texts(profile, strings.iter().map(|text| text.as_bytes()), &mut out);
        out.iter().map(|finding| (finding.kind, finding.count)).collect::<Vec<_>>()
    };
    let sent = ["de", "at", "", "it", "it"];
    let countries = text(&[("de", 0.5), ("fr", 0.5)], 300, 0.0);
    assert_eq!(found(&countries, &sent), [(Kind::UnknownCategory, 3), (Kind::EmptyText, 1)]);
    // A schema allows more than the data has, and the data has empty strings.
    let allowed = text(&[("de", 0.5), ("fr", 0.4), ("at", 0.0)], 300, 0.1);
    assert_eq!(found(&allowed, &sent), [(Kind::UnknownCategory, 2)]);
    // Names that occur once: there are more of them. Too few to say. Not all are listed.
    let names: Vec<String> = (0..200).map(|at| format!("name {at}")).collect();
    let names: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 0.005)).collect();
    assert_eq!(found(&text(&names, 200, 0.0), &["de"]), []);
    assert_eq!(found(&text(&[("de", 1.0)], 99, 0.0), &["fr"]), []);
    assert_eq!(found(&TextProfile { complete: false, ..countries }, &["it"]), []);
}
