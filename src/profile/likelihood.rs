//! How likely a value is by a profile: a density from its quantiles, with heavy tails.
use super::model::{FeatureProfile, QUANTILES};
use super::{Scaler, TensorProfile};

/// No single value counts more than this ratio for or against anything, as a natural logarithm
/// (10^3). So no outlier of one feature, however extreme, decides: two others must agree with it.
pub(super) const MAX_VALUE_RATIO: f64 = 6.907_755_278_982_137;
/// The likelihood ratio that every decision needs, 10^6, as a natural logarithm.
pub const DECISIVE: f64 = 13.815_510_557_964_274;

/// The density of one feature: constant between the quantiles, and falling with the square of the
/// distance beyond the smallest and the largest value.
///
/// The mass of each tail is 1 / (count + 2), what the next value beyond `count` others has by their
/// exchangeability alone. A square is heavier than the tails of nearly all data: its mean does not
/// exist.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Density {
    /// Minimum, quantiles and maximum.
    knots: [f64; 9],
    /// Natural logarithms of the density in each interval.
    inner: [f64; 8],
    /// Values that have a share of their own, ascending, with the logarithm of their density.
    atoms: Vec<(f64, f64)>,
    /// All values are atoms.
    discrete: bool,
    /// Half the width that an atom is given, so that its density can be compared.
    atom_width: f64,
    range: f64,
    tail: f64,
    zero: f64,
}

/// Shares below each of the knots.
const LEVELS: [f64; 9] = [
    0.0,
    QUANTILES[0],
    QUANTILES[1],
    QUANTILES[2],
    QUANTILES[3],
    QUANTILES[4],
    QUANTILES[5],
    QUANTILES[6],
    1.0,
];

/// Width of an atom as a part of the range.
const ATOM: f64 = 1e-4;

impl Density {
    /// `None` for a feature without finite values.
    pub(super) fn new(feature: &FeatureProfile) -> Option<Self> {
        if !feature.has_values() || feature.count == 0 {
            return None;
        }
        let mut knots = [feature.min; 9];
        knots[1..8].copy_from_slice(&feature.quantiles);
        knots[8] = feature.max;
        // Sketches are not exact: the order must hold all the same.
        for at in 1..9 {
            knots[at] = knots[at].clamp(knots[at - 1], feature.max);
        }
        let spread = feature.max - feature.min;
        let range = if spread > 0.0 { spread } else { feature.max.abs().max(1.0) };
        let width = range * ATOM;
        let mut atoms: Vec<(f64, f64)> =
            feature.values.iter().map(|(value, share)| (*value, (share / width).ln())).collect();
        let discrete = !atoms.is_empty();
        let mut inner = [0.0; 8];
        for at in 0..8 {
            let (mass, gap) = (LEVELS[at + 1] - LEVELS[at], knots[at + 1] - knots[at]);
            inner[at] = (mass / gap.max(width)).ln();
            if gap < width && !discrete {
                match atoms.last_mut() {
                    Some((value, share)) if *value == knots[at] => *share += mass / width,
                    _ => atoms.push((knots[at], mass / width)),
                }
            }
        }
        if !discrete {
            for (_, density) in &mut atoms {
                *density = density.ln();
            }
        }
        let tail = 1.0 / (feature.count as f64 + 2.0);
        Some(Self { knots, inner, atoms, discrete, atom_width: width / 2.0, range, tail, zero: feature.zero })
    }

    /// The natural logarithm of the density at a finite value.
    pub(super) fn log(&self, value: f64) -> f64 {
        self.log_or_atom(value).0
    }

    /// The same, and whether the value is an atom: one that has a share of its own. A map that
    /// stretches the values leaves the share of an atom as it is.
    pub(super) fn log_or_atom(&self, value: f64) -> (f64, bool) {
        // A client writes fewer digits than the profile has.
        let rounding = 1e-6 * value.abs() + 1e-9 * self.range;
        let at = self.atoms.partition_point(|(atom, _)| *atom < value - rounding);
        if let Some((atom, density)) = self.atoms.get(at)
            && (atom - value).abs() <= rounding
        {
            return (*density, true);
        }
        if value < self.knots[0] || value > self.knots[8] {
            let beyond = if value < self.knots[0] { self.knots[0] - value } else { value - self.knots[8] };
            return ((self.tail / self.range).ln() - 2.0 * (beyond / self.range).ln_1p(), false);
        }
        if self.discrete {
            // Between the values of a closed set: as unlikely as beyond them.
            return ((self.tail / self.range).ln(), false);
        }
        let bin = self.knots[1..8].iter().filter(|knot| **knot < value).count();
        (self.inner[bin], false)
    }

    /// An upper bound, for data that is not much denser inside an interval, of the share of values
    /// from `low` to `high`.
    ///
    /// Of a feature that is mostly 0 it is the share among the other values.
    pub(super) fn mass(&self, low: f64, high: f64) -> f64 {
        if self.discrete {
            let inside = self.atoms.iter().filter(|(atom, _)| (low..=high).contains(atom));
            let sparse = self.zero >= 0.5 && self.zero < 1.0;
            let inside = inside.filter(|(atom, _)| !sparse || *atom != 0.0);
            let share: f64 = inside.map(|(_, log)| log.exp() * 2.0 * self.atom_width).sum();
            return if sparse { share / (1.0 - self.zero) } else { share };
        }
        if self.knots[0] >= 0.0 && low <= 0.0 && high >= 0.0 && self.zero < 1.0 {
            // The share of zeros is known exactly.
            let others = 1.5 * (self.below(high) - self.below(0.0)).max(0.0);
            let sparse = self.zero >= 0.5;
            return if sparse { others / (1.0 - self.zero) } else { others + self.zero }.clamp(0.0, 1.0);
        }
        let zero = if low <= 0.0 && high >= 0.0 { self.zero } else { 0.0 };
        (1.5 * (self.below(high) - self.below(low)) + zero).clamp(0.0, 1.0)
    }

    fn below(&self, value: f64) -> f64 {
        let at = self.knots.iter().filter(|knot| **knot <= value).count();
        match at {
            0 => 0.0,
            9 => 1.0,
            at => {
                let (low, high) = (self.knots[at - 1], self.knots[at]);
                LEVELS[at - 1] + (LEVELS[at] - LEVELS[at - 1]) * (value - low) / (high - low)
            }
        }
    }

    /// Whether the value is within the training data, or less than half its range outside.
    pub(super) fn contains(&self, value: f64) -> bool {
        let slack = self.range / 2.0;
        if self.discrete && self.atoms.len() <= 2 {
            return self.atoms.iter().any(|(atom, _)| (atom - value).abs() <= slack * 0.02);
        }
        value >= self.knots[0] - slack && value <= self.knots[8] + slack
    }

    /// The seven quantiles.
    pub(super) fn quantiles(&self) -> &[f64] {
        &self.knots[1..8]
    }

    pub(super) fn range(&self) -> f64 {
        self.range
    }

    /// The density of a value that always comes, as a natural logarithm.
    pub(super) fn certain(&self) -> f64 {
        -(2.0 * self.atom_width).ln()
    }
}

/// Tells raw rows from rows that are as the model expects them.
#[derive(Debug, Clone, PartialEq)]
pub struct RawOrProfile {
    features: Vec<Option<Pair>>,
    typical: f64,
}

/// The two densities of a feature.
#[derive(Debug, Clone, PartialEq)]
struct Pair {
    profile: Density,
    raw: Raw,
}

/// The density of raw values: their own profile, or that of the scaled values and the scaler.
#[derive(Debug, Clone, PartialEq)]
enum Raw {
    Profile(Density),
    Scaled { factor: f64, offset: f64 },
}

impl RawOrProfile {
    /// `None` if the profile has neither `raw` nor a scaler.
    pub fn new(profile: &TensorProfile) -> Option<Self> {
        if profile.raw.is_none() && profile.scaler.is_none() {
            return None;
        }
        let pair = |(at, feature): (usize, &FeatureProfile)| {
            let raw = match (profile.raw.as_ref().and_then(|raw| raw.get(at)), &profile.scaler) {
                (Some(raw), _) => Raw::Profile(Density::new(raw)?),
                (None, Some(scaler)) => {
                    let (factor, offset) = finite(scaler, at)?;
                    Raw::Scaled { factor, offset }
                }
                (None, None) => return None,
            };
            Some(Pair { profile: Density::new(feature)?, raw })
        };
        let features: Vec<Option<Pair>> = profile.features.iter().enumerate().map(pair).collect();
        let typical = features.iter().flatten().map(Pair::typical).sum();
        Some(Self { features, typical })
    }

    /// The natural logarithm of the likelihood ratio of a row under `raw` over the row under the
    /// profile. The row is the numbers of one row of the tensor, of which position `i` belongs to
    /// feature `i` modulo the features. Values that are not finite say nothing. The values of one
    /// feature in a row (pixels) count as one, by their average, and each feature at most 10^3.
    pub fn log_ratio(&self, row: &[f64]) -> f64 {
        let width = self.features.len().max(1);
        let mut total = 0.0;
        for (at, pair) in self.features.iter().enumerate() {
            let Some(pair) = pair else { continue };
            let (mut sum, mut count) = (0.0, 0_u32);
            for value in row.iter().skip(at).step_by(width).filter(|value| value.is_finite()) {
                sum += pair.log_ratio(*value);
                count += 1;
            }
            total += if count > 0 { sum / f64::from(count) } else { 0.0 };
        }
        total
    }

    /// The logarithm that a row of median-like raw values reaches: the mean over the quantiles of
    /// `raw`, summed over the features. Below [`DECISIVE`] one row cannot tell.
    pub fn typical(&self) -> f64 {
        self.typical
    }

    /// Whether one typical raw row reaches a ratio of 10^6.
    pub fn one_row_can_tell(&self) -> bool {
        self.typical >= DECISIVE
    }
}

impl Pair {
    fn log_ratio(&self, value: f64) -> f64 {
        let raw = match &self.raw {
            Raw::Profile(density) => density.log(value),
            Raw::Scaled { factor, offset } => {
                self.profile.log(value.mul_add(*factor, *offset)) + factor.abs().ln()
            }
        };
        (raw - self.profile.log(value)).clamp(-MAX_VALUE_RATIO, MAX_VALUE_RATIO)
    }

    fn typical(&self) -> f64 {
        let raw: [f64; 7] = std::array::from_fn(|at| match &self.raw {
            Raw::Profile(density) => density.quantiles()[at],
            Raw::Scaled { factor, offset } => (self.profile.quantiles()[at] - offset) / factor,
        });
        raw.iter().map(|value| self.log_ratio(*value)).sum::<f64>() / 7.0
    }
}

/// The factor and offset of a feature, if they can be computed.
pub(super) fn finite(scaler: &Scaler, feature: usize) -> Option<(f64, f64)> {
    scaler
        .affine(feature)
        .filter(|(factor, offset)| factor.is_finite() && offset.is_finite() && *factor != 0.0)
}

/// The natural logarithm of the likelihood ratio of one row under `raw` over the row under the
/// profile; 0 if the profile has neither `raw` nor a scaler. For many rows, [`RawOrProfile`] is
/// made once.
pub fn raw_against_profile(profile: &TensorProfile, row: &[f64]) -> f64 {
    RawOrProfile::new(profile).map_or(0.0, |both| both.log_ratio(row))
}
