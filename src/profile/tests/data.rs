//! Training data of six shapes, and exact profiles of it.
use crate::profile::{By, FeatureProfile, QUANTILES, TensorProfile};
use crate::tensor::DataType;

/// A number that `make sweep-profiles` sets.
pub(super) fn given(variable: &str) -> Option<u64> {
    let value = std::env::var_os(variable)?;
    Some(value.to_str().and_then(|value| value.parse().ok()).expect("a number"))
}

/// An xorshift generator.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to 1, both excluded.
    pub(super) fn unit(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    pub(super) fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }
}

/// The shapes of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Normal,
    Skewed,
    Counts,
    OneHot,
    Images,
    Tokens,
}

pub(super) const SHAPES: [Shape; 6] =
    [Shape::Normal, Shape::Skewed, Shape::Counts, Shape::OneHot, Shape::Images, Shape::Tokens];

/// Mean and deviation of the features of normal data.
pub(super) const NORMAL: [(f64, f64); 10] = [
    (50.0, 10.0),
    (170.0, 15.0),
    (0.4, 0.1),
    (1200.0, 300.0),
    (36.6, 0.7),
    (7.0, 2.0),
    (-20.0, 8.0),
    (300.0, 60.0),
    (75.0, 9.0),
    (12.0, 3.0),
];
/// Medians of the features of skewed data, each lognormal.
const SKEWED: [f64; 8] = [1000.0, 40.0, 300.0, 20_000.0, 90.0, 5000.0, 150.0, 700.0];
/// Categories of each of the encoded columns.
const BLOCKS: [usize; 5] = [8, 6, 5, 7, 4];
/// Side of an image.
const SIDE: usize = 16;
/// Tokens of a text, and of the vocabulary.
const LENGTH: usize = 64;
const VOCABULARY: f64 = 2000.0;

impl Shape {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Skewed => "skewed",
            Self::Counts => "sparse counts",
            Self::OneHot => "one-hot",
            Self::Images => "images",
            Self::Tokens => "token ids",
        }
    }

    pub(super) fn by(self) -> By {
        match self {
            Self::Images => By::Channel,
            Self::Tokens => By::Whole,
            _ => By::Feature,
        }
    }

    pub(super) fn features(self) -> usize {
        match self {
            Self::Normal => NORMAL.len(),
            Self::Skewed => SKEWED.len(),
            Self::Counts => 20,
            Self::OneHot => BLOCKS.iter().sum(),
            Self::Images => 3,
            Self::Tokens => 1,
        }
    }

    pub(super) fn groups(self) -> usize {
        match self {
            Self::Images => SIDE * SIDE,
            Self::Tokens => LENGTH,
            _ => 1,
        }
    }

    /// One raw row.
    pub(super) fn row(self, random: &mut Random) -> Vec<f64> {
        match self {
            Self::Normal => NORMAL.iter().map(|(mean, std)| mean + std * random.normal()).collect(),
            Self::Skewed => SKEWED.iter().map(|median| median * random.normal().exp()).collect(),
            Self::Counts => (0..20)
                .map(|at| {
                    if random.unit() > 0.05 + 0.015 * f64::from(at) {
                        return 0.0;
                    }
                    1.0 + (random.unit().ln() / 0.85_f64.ln()).trunc()
                })
                .collect(),
            Self::OneHot => {
                let mut row = Vec::new();
                for block in BLOCKS {
                    // The first category is the most frequent.
                    let place = (block as f64 * random.unit().powf(1.4)) as usize;
                    row.extend((0..block).map(|at| f64::from(u8::from(at == place))));
                }
                row
            }
            Self::Images => image(random),
            Self::Tokens => (0..LENGTH).map(|_| (VOCABULARY.powf(random.unit()) - 1.0).trunc()).collect(),
        }
    }
}

/// A bright and a dark part with a gradient, and noise; red is brighter than blue.
fn image(random: &mut Random) -> Vec<f64> {
    let (light, contrast) = (20.0 + 160.0 * random.unit(), 20.0 + 110.0 * random.unit());
    let (angle, edge) = (random.unit() * 6.3, random.unit());
    let tint: Vec<f64> = [20.0, 0.0, -25.0].iter().map(|base| base + 20.0 * random.normal()).collect();
    let mut values = Vec::with_capacity(SIDE * SIDE * 3);
    for at in 0..SIDE * SIDE {
        let (x, y) = ((at % SIDE) as f64 / SIDE as f64, (at / SIDE) as f64 / SIDE as f64);
        let slope = x * angle.cos() + y * angle.sin();
        let shade = if slope > edge { contrast } else { -contrast };
        let base = light + shade + 60.0 * slope;
        values
            .extend(tint.iter().map(|tint| (base + tint + 12.0 * random.normal()).round().clamp(0.0, 255.0)));
    }
    values
}

/// The exact profile of one feature's values.
pub(super) fn profile_of(mut values: Vec<f64>) -> FeatureProfile {
    let mut profile = FeatureProfile::empty();
    profile.count = values.len() as u64;
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    profile.mean = values.iter().sum::<f64>() / count;
    profile.std = (values.iter().map(|value| (value - profile.mean).powi(2)).sum::<f64>() / count).sqrt();
    (profile.min, profile.max) = (values[0], values[values.len() - 1]);
    profile.quantiles = QUANTILES.map(|share| values[(share * (count - 1.0)).round() as usize]);
    let part = |is: &dyn Fn(&f64) -> bool| values.iter().filter(|value| is(value)).count() as f64 / count;
    profile.integral = part(&|value| value.fract() == 0.0);
    profile.zero = part(&|value| *value == 0.0);
    if profile.integral == 1.0 {
        for value in values {
            match profile.values.last_mut() {
                Some((known, share)) if *known == value => *share += 1.0 / count,
                _ => profile.values.push((value, 1.0 / count)),
            }
        }
        if profile.values.len() > 256 {
            profile.values.clear();
        }
    }
    profile
}

/// The exact profiles of the features of some rows.
pub(super) fn profiles(rows: &[Vec<f64>], features: usize) -> Vec<FeatureProfile> {
    let column =
        |at: usize| rows.iter().flat_map(|row| row.iter().skip(at).step_by(features).copied()).collect();
    (0..features).map(|at| profile_of(column(at))).collect()
}

/// The exact profile of a tensor.
pub(super) fn profile(rows: &[Vec<f64>], by: By, dtype: DataType, features: usize) -> TensorProfile {
    TensorProfile {
        dtype,
        by,
        features: profiles(rows, features),
        names: Vec::new(),
        raw: None,
        scaler: None,
        text: None,
    }
}
