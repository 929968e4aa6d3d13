//! Callers that do nothing wrong: in-distribution rows, slices, repeated rows and drift.
use super::corpus::{Case, Prepared, World, Wrong, cases, sample};
use super::data::{Random, SHAPES, Shape, given, profile};
use crate::profile::{By, Checks, Kind, Sample, Window};
use crate::tensor::DataType;

/// Rows of in-distribution traffic, over all windows.
fn rows() -> u64 {
    given("PROFILE_ROWS").unwrap_or(40_000)
}

/// Counts the windows of `size` rows that find something, and the rows with a row finding.
fn run(checks: &Checks, rows: u64, size: u64, row: &mut dyn FnMut(u64) -> Sample) -> (u64, u64) {
    let (mut false_alarms, mut flagged) = (0, 0);
    let mut window = Window::new(checks);
    let mut out = Vec::new();
    for at in 0..rows {
        let sample = row(at);
        window.add(checks, &sample);
        out.clear();
        checks.rows(&sample, &mut out);
        flagged += u64::from(!out.is_empty());
        if (at + 1) % size == 0 {
            if let Some(found) = window.verdict() {
                eprintln!("{found:?}");
                false_alarms += 1;
            }
            window = Window::new(checks);
        }
    }
    false_alarms += u64::from(window.verdict().is_some());
    (false_alarms, flagged)
}

#[test]
fn in_distribution_traffic_is_never_found_wrong() {
    let each = rows() / 10;
    for shape in SHAPES {
        let prepared = match shape {
            Shape::Normal | Shape::Skewed => Prepared::Standard,
            Shape::Images => Prepared::Unit,
            _ => Prepared::Raw,
        };
        let case = Case { shape, prepared, wrong: Wrong::Times(1.0), name: "", expected: None };
        let world = World::new(case, if shape.groups() > 1 { 500 } else { 2000 }, 5);
        let rows = if shape.groups() > 1 { each / 8 } else { each };
        for (size, seed) in [(40, 6), (250, 7), (100_000, 8)] {
            let mut random = Random::new(seed);
            let (found, flagged) = run(&world.checks, rows / 3, size, &mut |_| {
                let raw = shape.row(&mut random);
                sample(shape, world.send(&raw, &mut random))
            });
            assert_eq!(found, 0, "{} in windows of {size}", shape.name());
            // Each feature has at most 2 in 2000 values beyond all of the training data.
            let most = 2.0 * shape.features() as f64 / 2000.0 * (rows as f64 / 3.0);
            assert!((flagged as f64) <= most.max(3.0), "{}: {flagged} of {rows}", shape.name());
        }
    }
}

/// Heavy tails by name, each as a feature of a row.
fn heavy(random: &mut Random) -> Vec<f64> {
    let t2 = random.normal() / (-random.unit().ln()).sqrt();
    let cauchy = random.normal() / random.normal();
    let pareto = |shape: f64, random: &mut Random| random.unit().powf(-1.0 / shape);
    let (one, half) = (pareto(1.0, random), pareto(0.5, random));
    let constant = 3.0;
    vec![t2, cauchy, one, half, constant, (2.0 * random.normal()).exp()]
}

#[test]
fn heavy_tails_and_constant_features_are_never_found_wrong() {
    let mut random = Random::new(11);
    let training: Vec<Vec<f64>> = (0..2000).map(|_| heavy(&mut random)).collect();
    let checks = Checks::new(&profile(&training, By::Feature, DataType::DOUBLE, 6)).unwrap();
    let count = rows() / 4;
    for size in [40, 500, 1_000_000] {
        let (found, flagged) = run(&checks, count, size, &mut |_| Sample::of_rows(6, &heavy(&mut random)));
        assert_eq!(found, 0, "windows of {size}");
        // Six features, each of which exceeds 2000 others on both sides in at most 2 of 2001 rows.
        assert!((flagged as f64) < 12.0 / 2001.0 * count as f64, "{flagged} of {count}");
    }
}

#[test]
fn slices_and_repeated_rows_are_never_found_wrong() {
    for shape in [Shape::Normal, Shape::Skewed, Shape::OneHot, Shape::Counts] {
        let prepared =
            if shape == Shape::OneHot || shape == Shape::Counts { Prepared::Raw } else { Prepared::Standard };
        let case = Case { shape, prepared, wrong: Wrong::Times(1.0), name: "", expected: None };
        let world = World::new(case, 4000, 21);
        let mut random = Random::new(22);
        for slice in 0..12_u64 {
            // One shop: most features vary little, anywhere in the training data.
            let base = shape.row(&mut random);
            let (found, _) = run(&world.checks, 400, 400, &mut |at| {
                let other = shape.row(&mut random);
                let mixed = |(feature, (base, other)): (usize, (&f64, &f64))| match (shape, slice % 3) {
                    (Shape::OneHot, _) => *base,
                    (_, 0) => {
                        if feature == (at as usize) % shape.features() {
                            *other
                        } else {
                            *base
                        }
                    }
                    (_, 1) => base + (other - base) * 0.05,
                    _ => {
                        if feature == 0 {
                            *other
                        } else {
                            *base
                        }
                    }
                };
                let raw: Vec<f64> = base.iter().zip(&other).enumerate().map(mixed).collect();
                let raw = if shape == Shape::Counts {
                    raw.iter().map(|value| value.round()).collect()
                } else {
                    raw
                };
                sample(shape, world.prepare(&raw))
            });
            assert_eq!(found, 0, "{} slice {slice}", shape.name());
        }
        // One raw row for ever, as a health check may send it: only one row.
        let wrong = vec![1e6; shape.features()];
        let (found, _) = run(&world.checks, 2000, 2000, &mut |_| sample(shape, wrong.clone()));
        assert_eq!(found, 0, "{} repeated", shape.name());
    }
}

#[test]
fn a_drifting_caller_is_called_drifting() {
    for shape in [Shape::Normal, Shape::Skewed] {
        let case =
            Case { shape, prepared: Prepared::Standard, wrong: Wrong::Times(1.0), name: "", expected: None };
        let world = World::new(case, 4000, 31);
        let mut random = Random::new(32);
        // All features, or one, move by up to five deviations, or grow to three times their size.
        for kind in 0..4 {
            let mut window = Window::new(&world.checks);
            for at in 0..3000 {
                let way = f64::from(at) / 3000.0;
                let mut row = world.prepare(&shape.row(&mut random));
                for (feature, value) in row.iter_mut().enumerate() {
                    match kind {
                        0 => *value += 5.0 * way,
                        1 if feature == 1 => *value += 5.0 * way,
                        2 => *value *= 1.0 + 2.0 * way,
                        3 if feature % 2 == 0 => *value -= 4.0 * way,
                        _ => {}
                    }
                }
                window.add(&world.checks, &sample(shape, row));
                assert!(
                    window.verdict().is_none(),
                    "{} {kind} at {at}: {:?}",
                    shape.name(),
                    window.verdict()
                );
            }
            let drift = window.drift(&world.checks);
            let (_, most) = drift.worst[0];
            assert!(most > 0.2, "{} {kind}: {most}", shape.name());
        }
        let mut window = Window::new(&world.checks);
        for _ in 0..6000 {
            window.add(&world.checks, &sample(shape, world.prepare(&shape.row(&mut random))));
        }
        let (_, most) = window.drift(&world.checks).worst[0];
        assert!(most < 0.1, "{}: {most}", shape.name());
    }
}

#[test]
fn a_raw_row_is_told_from_a_scaled_one() {
    let mut wrong = 0;
    for case in cases().into_iter().filter(|case| case.name == "not scaled" && case.shape == Shape::Normal) {
        let world = World::new(case, 3000, 41);
        let both = world.checks.raw_or_profile().unwrap();
        assert!(both.one_row_can_tell());
        let mut random = Random::new(42);
        for _ in 0..2000 {
            let raw = case.shape.row(&mut random);
            let (sent, scaled) = (both.log_ratio(&raw), both.log_ratio(&world.prepare(&raw)));
            assert!(sent > crate::profile::DECISIVE, "{sent}");
            wrong += u32::from(scaled > 0.0);
        }
        // An outlier of one feature, however far, decides nothing.
        let mut outlier = world.prepare(&case.shape.row(&mut random));
        outlier[0] = 50.0;
        assert!(both.log_ratio(&outlier) < 0.0);
    }
    assert_eq!(wrong, 0);
}

#[test]
fn row_findings_name_the_value_to_the_client_only() {
    let rows: Vec<Vec<f64>> = (0..2000).map(|at| vec![f64::from(at % 100), f64::from(at % 3)]).collect();
    let mut of = profile(&rows, By::Feature, DataType::FLOAT, 2);
    of.names = vec!["age".into(), "kind".into()];
    of.features[0].values.clear();
    let checks = Checks::new(&of).unwrap();
    let mut out = Vec::new();
    checks
        .rows(&Sample::of_rows(2, &[50.0, 1.0, 397.0, 2.0, 4321.0, 7.0, f64::NAN, 0.0, 9e9, 0.0]), &mut out);
    let said: Vec<(Kind, u32)> = out.iter().map(|finding| (finding.kind, finding.count)).collect();
    assert_eq!(said, [(Kind::OutOfRange, 3), (Kind::NotFinite, 1), (Kind::UnknownCategory, 1)]);
    assert_eq!(out[0].for_client("x"), "`x` feature age is 397, far outside the training data (0 to 99)");
    assert_eq!(
        out[0].for_operator("x"),
        "`x` feature age is more than three ranges outside the training data"
    );
    assert_eq!(out[2].for_client("x"), "`x` feature kind is `7`, which the training data does not have");
    for finding in &out {
        let text = finding.for_operator("x");
        assert!(!text.chars().any(|c| c.is_ascii_digit()), "{text}");
    }
}
