//! The mistakes of the corpus: how the training data was prepared, what the client does instead,
//! and what is to be found.
use super::data::{NORMAL, Random, SHAPES, Shape, profile, profiles};
use crate::profile::{Checks, FeatureProfile, Mistake, Sample, Scaler, Window};
use crate::tensor::DataType;

/// How the values of a model were prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prepared {
    Raw,
    /// Scaled; the profile has the scaler and `raw`.
    Standard,
    /// Scaled; the profile has `raw` only.
    StandardUnknown,
    /// Divided by 255.
    Unit,
    /// Scaled to -1 to 1; the profile knows nothing of it.
    Symmetric,
    /// Less the mean of ImageNet; the profile has the scaler.
    LessMean,
    Log,
    Log1p,
}

/// What a client does to a row that is prepared as the model expects it, or to a raw one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wrong {
    SendRaw,
    Again,
    OnlyDivide,
    Times(f64),
    TimesOne(usize, f64),
    FromUnit,
    ToUnit,
    Reverse,
    Swap(usize, usize),
    Log,
    Log1p,
    /// In one of five rows.
    Code(usize, f64),
    Stick(usize, f64),
    Vocabulary,
}

/// A case of the corpus.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) shape: Shape,
    pub(super) prepared: Prepared,
    pub(super) wrong: Wrong,
    pub(super) name: &'static str,
    /// `None` if the training data cannot tell it from a slice of itself, and nothing may be said.
    pub(super) expected: Option<Mistake>,
}

/// All cases.
pub(super) fn cases() -> Vec<Case> {
    use Mistake as M;
    use Prepared as P;
    use Shape as S;
    use Wrong as W;
    let mut all = Vec::new();
    let mut add = |shape, prepared, wrong, name, expected| {
        all.push(Case { shape, prepared, wrong, name, expected });
    };
    for shape in [S::Normal, S::Skewed, S::Counts, S::OneHot, S::Images] {
        add(shape, P::Standard, W::SendRaw, "not scaled", Some(M::NotScaled));
        add(shape, P::Standard, W::Again, "scaled twice", Some(M::ScaledTwice));
        add(shape, P::Standard, W::OnlyDivide, "mean not subtracted", Some(M::MeanNotSubtracted));
    }
    add(S::Normal, P::StandardUnknown, W::SendRaw, "not scaled", Some(M::NotScaled));
    add(S::Images, P::StandardUnknown, W::SendRaw, "not scaled", Some(M::NotScaled));
    add(S::Images, P::LessMean, W::SendRaw, "mean not subtracted", Some(M::MeanNotSubtracted));
    for (shape, prepared) in [
        (S::Normal, P::Raw),
        (S::Normal, P::Standard),
        (S::Skewed, P::Raw),
        (S::Counts, P::Raw),
        (S::OneHot, P::Raw),
        (S::Images, P::Unit),
        (S::Tokens, P::Raw),
    ] {
        add(shape, prepared, W::Times(255.0), "x255", Some(M::Times255));
        add(shape, prepared, W::Times(1.0 / 255.0), "/255", Some(M::Over255));
    }
    add(S::Normal, P::Unit, W::FromUnit, "-1..1 for 0..1", Some(M::SymmetricForUnit));
    add(S::OneHot, P::Raw, W::FromUnit, "-1..1 for 0..1", Some(M::SymmetricForUnit));
    add(S::Images, P::Unit, W::FromUnit, "-1..1 for 0..1", Some(M::SymmetricForUnit));
    add(S::Normal, P::Symmetric, W::ToUnit, "0..1 for -1..1", Some(M::UnitForSymmetric));
    add(S::Images, P::Symmetric, W::ToUnit, "0..1 for -1..1", Some(M::UnitForSymmetric));
    add(S::Images, P::LessMean, W::Reverse, "channels reversed", Some(M::ChannelsReversed));
    add(S::Images, P::Unit, W::Reverse, "channels reversed", None);
    add(S::Normal, P::Raw, W::Swap(2, 3), "two features swapped", Some(M::Permuted));
    add(S::Skewed, P::Raw, W::Swap(1, 3), "two features swapped", Some(M::Permuted));
    add(S::Normal, P::Raw, W::Reverse, "order reversed", Some(M::Permuted));
    add(S::Normal, P::Standard, W::Swap(2, 3), "two features swapped", None);
    add(S::OneHot, P::Raw, W::Swap(2, 3), "two features swapped", None);
    add(S::Skewed, P::Log, W::SendRaw, "log not taken", Some(M::LogNotTaken));
    add(S::Counts, P::Log1p, W::SendRaw, "log not taken", Some(M::LogNotTaken));
    add(S::Skewed, P::Log, W::Log, "log taken twice", Some(M::LogTakenTwice));
    add(S::Skewed, P::Raw, W::Log, "log taken twice", Some(M::LogTakenTwice));
    add(S::Counts, P::Raw, W::Log1p, "log taken twice", Some(M::LogTakenTwice));
    add(S::Tokens, P::Raw, W::Log1p, "log taken twice", Some(M::LogTakenTwice));
    add(S::Normal, P::Raw, W::TimesOne(1, 0.01), "unit of one feature", Some(M::Unit));
    add(S::Normal, P::Raw, W::TimesOne(3, 1000.0), "unit of one feature", Some(M::Unit));
    add(S::Skewed, P::Raw, W::TimesOne(2, 1000.0), "unit of one feature", Some(M::Unit));
    add(S::Skewed, P::Raw, W::TimesOne(2, 0.001), "unit of one feature", None);
    add(S::Counts, P::Raw, W::TimesOne(19, 1000.0), "unit of one feature", Some(M::Unit));
    for shape in [S::Normal, S::Skewed, S::Counts, S::OneHot, S::Tokens] {
        let at = shape.features() / 2;
        add(shape, P::Raw, W::Code(at, -999.0), "missing as -999", Some(M::MissingCoded));
        add(shape, P::Raw, W::Code(at, -1.0), "missing as -1", Some(M::MissingCoded));
        add(shape, P::Raw, W::Code(at, f64::NAN), "missing as NaN", Some(M::MissingCoded));
    }
    add(S::Normal, P::Standard, W::Code(3, 0.0), "missing as 0", Some(M::MissingCoded));
    add(S::Skewed, P::Raw, W::Code(3, 0.0), "missing as 0", Some(M::MissingCoded));
    add(S::Counts, P::Raw, W::Code(3, 0.0), "missing as 0", None);
    add(S::Normal, P::Raw, W::Stick(4, 0.0), "constant feature", Some(M::Constant));
    add(S::Skewed, P::Raw, W::Stick(4, 0.0), "constant feature", Some(M::Constant));
    add(S::Counts, P::Raw, W::Stick(4, 999.0), "constant feature", Some(M::Constant));
    add(S::OneHot, P::Raw, W::Stick(4, 0.0), "constant feature", None);
    add(S::Normal, P::Raw, W::Stick(4, 36.5), "constant feature", None);
    add(S::Tokens, P::Raw, W::Vocabulary, "other vocabulary", Some(M::Vocabulary));
    all
}

/// What the training data of a case is like.
pub(super) struct World {
    pub(super) checks: Checks,
    raw: Vec<FeatureProfile>,
    affine: Vec<(f64, f64)>,
    case: Case,
}

impl World {
    pub(super) fn new(case: Case, rows: usize, seed: u64) -> Self {
        let (shape, mut random) = (case.shape, Random::new(seed));
        let raw: Vec<Vec<f64>> = (0..rows).map(|_| shape.row(&mut random)).collect();
        let raw_profiles = profiles(&raw, shape.features());
        let scaler = match case.prepared {
            Prepared::Standard | Prepared::StandardUnknown => Scaler::Standard {
                mean: raw_profiles.iter().map(|feature| feature.mean).collect(),
                scale: raw_profiles.iter().map(|feature| feature.std).collect(),
            },
            Prepared::LessMean => {
                Scaler::Standard { mean: vec![103.939, 116.779, 123.68], scale: vec![1.0; 3] }
            }
            Prepared::Unit | Prepared::Symmetric => {
                let low = if case.prepared == Prepared::Unit { 0.0 } else { -1.0 };
                Scaler::MinMax {
                    min: raw_profiles.iter().map(|feature| feature.min).collect(),
                    max: raw_profiles.iter().map(|feature| feature.max).collect(),
                    to: (low, 1.0),
                }
            }
            _ => Scaler::Standard { mean: vec![0.0], scale: vec![1.0] },
        };
        let affine = (0..shape.features()).map(|at| scaler.affine(at).unwrap()).collect();
        let mut world = Self { checks: placeholder(), raw: raw_profiles, affine, case };
        let prepared: Vec<Vec<f64>> = raw.iter().map(|row| world.prepare(row)).collect();
        let dtype = match (shape, case.prepared) {
            (Shape::Counts, Prepared::Raw) => DataType::INT64,
            (Shape::Tokens, _) => DataType::INT32,
            _ => DataType::FLOAT,
        };
        let mut of = profile(&prepared, shape.by(), dtype, shape.features());
        match case.prepared {
            Prepared::Standard | Prepared::LessMean => {
                (of.raw, of.scaler) = (Some(world.raw.clone()), Some(scaler));
            }
            Prepared::StandardUnknown => of.raw = Some(world.raw.clone()),
            _ => {}
        }
        world.checks = Checks::new(&of).unwrap();
        world
    }

    /// A row as the model expects it.
    pub(super) fn prepare(&self, raw: &[f64]) -> Vec<f64> {
        let prepared = raw.iter().enumerate().map(|(at, value)| {
            let (factor, offset) = self.affine[at % self.affine.len()];
            match self.case.prepared {
                Prepared::Log => value.ln(),
                Prepared::Log1p => value.ln_1p(),
                _ => value.mul_add(factor, offset),
            }
        });
        // As a client sends it.
        prepared.map(|value| f64::from(value as f32)).collect()
    }

    /// A row as the client of the case sends it.
    pub(super) fn send(&self, raw: &[f64], random: &mut Random) -> Vec<f64> {
        let width = self.affine.len();
        let mut row = self.prepare(raw);
        let each = |row: &mut Vec<f64>, of: &dyn Fn(usize, f64) -> f64| {
            row.iter_mut().enumerate().for_each(|(at, value)| *value = of(at % width, *value));
        };
        match self.case.wrong {
            Wrong::SendRaw => row = raw.to_vec(),
            Wrong::Again => each(&mut row, &|at, value| value.mul_add(self.affine[at].0, self.affine[at].1)),
            Wrong::OnlyDivide => {
                row = raw.to_vec();
                each(&mut row, &|at, value| value * self.affine[at].0);
            }
            Wrong::Times(factor) => each(&mut row, &|_, value| value * factor),
            Wrong::TimesOne(which, factor) => row[which] *= factor,
            Wrong::FromUnit => each(&mut row, &|_, value| 2.0 * value - 1.0),
            Wrong::ToUnit => each(&mut row, &|_, value| f64::midpoint(value, 1.0)),
            Wrong::Reverse => row.chunks_exact_mut(width).for_each(<[f64]>::reverse),
            Wrong::Swap(one, other) => row.swap(one, other),
            Wrong::Log => each(&mut row, &|_, value| value.ln()),
            Wrong::Log1p => each(&mut row, &|_, value| value.ln_1p()),
            Wrong::Code(which, code) => {
                for group in row.chunks_exact_mut(width) {
                    if random.below(5) == 0 {
                        group[which] = code;
                    }
                }
            }
            Wrong::Stick(which, value) => row[which] = value,
            Wrong::Vocabulary => {
                for value in &mut row {
                    *value = random.below(30_000) as f64;
                }
            }
        }
        row.into_iter().map(|value| f64::from(value as f32)).collect()
    }
}

fn placeholder() -> Checks {
    let rows: Vec<Vec<f64>> = (0..3).map(|at| vec![f64::from(at)]).collect();
    Checks::new(&profile(&rows, crate::profile::By::Whole, DataType::FLOAT, 1)).unwrap()
}

/// What is found after this number of requests of one row.
pub(super) fn found(world: &World, requests: usize, seed: u64) -> (Option<Mistake>, u32) {
    let (shape, mut random) = (world.case.shape, Random::new(seed));
    let mut window = Window::new(&world.checks);
    for request in 0..requests {
        let raw = shape.row(&mut random);
        let row = world.send(&raw, &mut random);
        window.add(&world.checks, &sample(shape, row));
        if let Some(found) = window.verdict() {
            return (Some(found.mistake), request as u32 + 1);
        }
    }
    (None, requests as u32)
}

/// A sample of one whole row.
pub(super) fn sample(shape: Shape, row: Vec<f64>) -> Sample {
    Sample {
        values: row,
        features: shape.features(),
        groups: shape.groups(),
        rows: 1,
        total_rows: 1,
        whole_rows: true,
    }
}

#[test]
fn the_corpus_has_twelve_mistakes_and_six_shapes() {
    let all = cases();
    let mut names: Vec<&str> = all.iter().map(|case| case.name).collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() >= 12, "{names:?}");
    assert!(SHAPES.iter().all(|shape| all.iter().any(|case| case.shape == *shape)));
    assert_eq!(NORMAL.len(), Shape::Normal.features());
}
