//! What is computed once from a profile, so that a value costs a few comparisons.
use super::likelihood::{Density, RawOrProfile, finite};
use super::model::FeatureProfile;
use super::{By, Scaler, TensorProfile};
use crate::tensor::{Class, DataType};

/// The checks of one tensor.
#[derive(Debug, Clone)]
pub struct Checks {
    pub(super) by: By,
    pub(super) dtype: DataType,
    pub(super) names: Vec<String>,
    /// The bounds of the features, repeated so often that a loop over them is long enough to
    /// compare several at once. Their length is a multiple of the features.
    pub(super) tile: usize,
    /// Values outside are excluded: the range of the training data and a margin.
    pub(super) low: Vec<f64>,
    pub(super) high: Vec<f64>,
    /// Values outside are reported at once: three ranges outside.
    pub(super) far_low: Vec<f64>,
    pub(super) far_high: Vec<f64>,
    /// 0 for a feature that never was exactly 0, else NaN, which no value equals.
    pub(super) never: Vec<f64>,
    /// Added and subtracted again, this number takes the fraction off a value. 0 for a feature that
    /// may have one.
    pub(super) whole: Vec<f64>,
    /// Whether any of them is set.
    has_never: bool,
    has_whole: bool,
    /// Means of the training data.
    pub(super) shift: Vec<f64>,
    /// Features that have few values, all known.
    pub(super) categories: Vec<usize>,
    pub(super) features: Vec<FeatureProfile>,
    pub(super) density: Vec<Option<Density>>,
    pub(super) raw: Option<Vec<FeatureProfile>>,
    pub(super) raw_density: Vec<Option<Density>>,
    pub(super) scaler: Option<Scaler>,
    /// The quantiles between the cells that are counted to see drift, and the shares of the cells.
    pub(super) edges: Vec<[f64; 7]>,
    pub(super) shares: Vec<[f64; 8]>,
    raw_or_profile: Option<RawOrProfile>,
}

/// 1.5 * 2^52: an `f64` of this size has no fraction bits.
const WHOLE: f64 = 6_755_399_441_055_744.0;
/// Values that a feature must have in the training data before what it never was says something.
const ENOUGH: u64 = 1000;
/// The shortest loop over bounds.
const MIN_TILE: usize = 24;

impl Checks {
    /// `None` for strings and for a profile without features.
    pub fn new(profile: &TensorProfile) -> Option<Self> {
        if profile.features.is_empty() || profile.text.is_some() {
            return None;
        }
        let features = &profile.features;
        let tile = features.len() * MIN_TILE.div_ceil(features.len());
        let each = |of: &dyn Fn(&FeatureProfile) -> f64| {
            features.iter().map(of).cycle().take(tile).collect::<Vec<f64>>()
        };
        let rounding = rounding(profile.dtype);
        let margin = |feature: &FeatureProfile| {
            0.01 * (feature.max - feature.min) + rounding * feature.max.abs().max(feature.min.abs())
        };
        let density = features.iter().map(Density::new).collect();
        let raw = profile.raw.clone().filter(|raw| raw.len() == features.len());
        let raw_density = raw
            .as_ref()
            .map_or_else(|| vec![None; features.len()], |raw| raw.iter().map(Density::new).collect());
        let is_category = |feature: &FeatureProfile| !feature.values.is_empty() && closed(feature);
        Some(Self {
            by: profile.by,
            dtype: profile.dtype,
            names: profile.names.clone(),
            tile,
            low: each(&|feature| {
                let low = feature.min - margin(feature);
                // A negative value is excluded where the training data has none.
                let low = if feature.min >= 0.0 { low.max(-rounding * feature.max) } else { low };
                bound(feature, low, f64::NEG_INFINITY)
            }),
            high: each(&|feature| bound(feature, feature.max + margin(feature), f64::INFINITY)),
            far_low: each(&|feature| bound(feature, feature.min - 3.0 * range(feature), f64::NEG_INFINITY)),
            far_high: each(&|feature| bound(feature, feature.max + 3.0 * range(feature), f64::INFINITY)),
            never: each(&|feature| if has_no_zero(feature) { 0.0 } else { f64::NAN }),
            whole: each(&|feature| if is_whole(feature) { WHOLE } else { 0.0 }),
            has_never: features.iter().any(has_no_zero),
            has_whole: features.iter().any(is_whole),
            shift: each(&|feature| if feature.has_values() { feature.mean } else { 0.0 }),
            categories: (0..features.len()).filter(|at| is_category(&features[*at])).collect(),
            edges: features.iter().map(|feature| feature.quantiles).collect(),
            shares: features.iter().map(super::drift::shares).collect(),
            features: features.clone(),
            density,
            raw,
            raw_density,
            scaler: profile.scaler.clone(),
            raw_or_profile: RawOrProfile::new(profile),
        })
    }

    /// Features, which is the size of the last axis of a sample's groups.
    pub fn width(&self) -> usize {
        self.features.len()
    }

    /// Which values share their statistics.
    pub fn by(&self) -> By {
        self.by
    }

    /// How people refer to a feature: its name, else its position.
    pub fn name(&self, feature: usize) -> String {
        self.names.get(feature).cloned().unwrap_or_else(|| feature.to_string())
    }

    /// Tells raw rows from prepared ones; `None` if the profile has neither `raw` nor a scaler.
    pub fn raw_or_profile(&self) -> Option<&RawOrProfile> {
        self.raw_or_profile.as_ref()
    }

    /// Whether the training data excludes the value: beyond its range and a margin of 1 %, a
    /// fraction or an exact zero where it had none, NaN or infinite where it had none.
    #[inline]
    pub(super) fn excludes(&self, feature: usize, value: f64) -> bool {
        if !value.is_finite() {
            let profile = &self.features[feature];
            return if value.is_nan() { profile.missing == 0.0 } else { profile.non_finite == 0.0 };
        }
        self.suspect(feature, value)
    }

    /// As [`Self::excludes`], and true for every NaN.
    #[inline]
    pub(super) fn suspect(&self, at: usize, value: f64) -> bool {
        let inside = value >= self.low[at] && value <= self.high[at];
        let whole = (value + self.whole[at]) - self.whole[at];
        !inside || value == self.never[at] || whole != value
    }

    /// The factor and offset that make scaled values of raw ones: those of the scaler, else what
    /// leads from the moments of `raw` to those of the profile, if it leads from median to median.
    pub(super) fn scaling(&self, feature: usize) -> Option<(f64, f64)> {
        if let Some(scaler) = &self.scaler {
            return finite(scaler, feature);
        }
        let (raw, scaled) = (self.raw.as_ref()?.get(feature)?, self.features.get(feature)?);
        let factor = scaled.std / raw.std;
        let offset = scaled.mean - raw.mean * factor;
        let median = raw.quantiles[3].mul_add(factor, offset);
        let linear = (median - scaled.quantiles[3]).abs() <= 0.05 * scaled.std;
        (factor.is_finite() && factor != 0.0 && linear).then_some((factor, offset))
    }

    /// Whether the values look like ids of tokens: whole numbers from 0 up to hundreds, about the
    /// same for each position.
    pub(super) fn has_ids(&self) -> bool {
        let most = self.features.iter().map(|feature| feature.max).fold(0.0, f64::max);
        let integers =
            self.dtype.info().is_some_and(|info| matches!(info.class, Class::Signed | Class::Unsigned));
        let is_id = |feature: &FeatureProfile| {
            feature.integral == 1.0 && feature.min >= 0.0 && feature.max >= most / 4.0
        };
        integers && most >= 256.0 && self.features.iter().all(is_id)
    }

    /// Whether any value of a row, or of a part of it that begins at a multiple of the tile, is
    /// excluded, or NaN. It has no branch for each value, so that several are compared at once.
    #[inline]
    pub(super) fn any_suspect(&self, block: &[f64]) -> bool {
        let count = block.len().min(self.tile);
        let (block, low, high) = (&block[..count], &self.low[..count], &self.high[..count]);
        let (never, whole) = (&self.never[..count], &self.whole[..count]);
        let mut inside = true;
        for at in 0..count {
            inside &= block[at] >= low[at];
            inside &= block[at] <= high[at];
        }
        if !inside {
            return true;
        }
        let mut suspect = false;
        if self.has_never {
            for at in 0..count {
                suspect |= block[at] == never[at];
            }
        }
        if self.has_whole {
            for at in 0..count {
                suspect |= (block[at] + whole[at]) - whole[at] != block[at];
            }
        }
        suspect
    }

    /// Bytes on the heap, about.
    pub fn bytes(&self) -> usize {
        self.features.len() * (size_of::<FeatureProfile>() * 2 + size_of::<Density>() * 2 + 15 * 8)
    }
}

/// The range of the training data; of a constant, its size.
pub(super) fn range(feature: &FeatureProfile) -> f64 {
    let range = feature.max - feature.min;
    if range > 0.0 { range } else { feature.max.abs().max(1.0) }
}

fn has_no_zero(feature: &FeatureProfile) -> bool {
    feature.zero == 0.0 && feature.count >= ENOUGH
}

fn is_whole(feature: &FeatureProfile) -> bool {
    feature.integral == 1.0 && feature.count >= ENOUGH
}

fn bound(feature: &FeatureProfile, value: f64, open: f64) -> f64 {
    if feature.has_values() && value.is_finite() { value } else { open }
}

/// Whether new values are not to be expected: by Good and Turing (1953) they have about the share
/// of those that were seen once, here at most 10^-4.
fn closed(feature: &FeatureProfile) -> bool {
    let once = 1.5 / feature.count as f64;
    let singles = feature.values.iter().filter(|(_, share)| *share <= once).count();
    feature.count >= 100 && singles as f64 <= 1e-4 * feature.count as f64
}

/// How much a value may differ, as a part of it, because a client writes it with fewer digits.
fn rounding(dtype: DataType) -> f64 {
    match dtype {
        DataType::DOUBLE => 1e-9,
        DataType::HALF => 1e-3,
        DataType::BFLOAT16 => 1e-2,
        DataType::FLOAT => 1e-6,
        other => match other.info().map(|info| info.class) {
            Some(Class::Float) => 0.25,
            _ => 0.0,
        },
    }
}
