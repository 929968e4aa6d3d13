//! The types of a profile: statistics of each feature of each input and output of a signature.
use std::collections::BTreeMap;

use crate::tensor::DataType;

/// Features of a tensor that have statistics of their own.
pub const MAX_FEATURES: usize = 4096;
/// Distinct values that are kept of a feature or a text.
pub const MAX_VALUES: usize = 256;
/// Inputs of a profile, and outputs.
pub const MAX_TENSORS: usize = 1024;
/// Bytes of a name, and of a text that is kept as one of the most frequent.
pub const MAX_TEXT_BYTES: usize = 256;
/// The shares of values below each of [`FeatureProfile::quantiles`].
pub const QUANTILES: [f64; 7] = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99];

/// What the data for one signature of a model looks like.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profile {
    pub model: Option<String>,
    pub signature: Option<String>,
    /// Examples that were read, the size of dim 0.
    pub rows: u64,
    /// Where the statistics come from, such as file names. For people.
    pub sources: Vec<String>,
    pub inputs: BTreeMap<String, TensorProfile>,
    pub outputs: BTreeMap<String, TensorProfile>,
}

/// What the values of one input or output look like.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorProfile {
    /// The dtype that the model is sent.
    pub dtype: DataType,
    pub by: By,
    /// One for each feature or channel, exactly one for [`By::Whole`]. Empty for strings, whose
    /// statistics are in `text`.
    pub features: Vec<FeatureProfile>,
    /// A name for each of `features`, or empty.
    pub names: Vec<String>,
    /// The same features before they were preprocessed.
    pub raw: Option<Vec<FeatureProfile>>,
    /// How `features` were made from `raw`.
    pub scaler: Option<Scaler>,
    /// Set for strings, and for nothing else.
    pub text: Option<TextProfile>,
}

/// Which values share their statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    /// The values of one position in the last axis, of at most [`MAX_FEATURES`].
    Feature,
    /// The values of one channel of images: of one position in the last axis of `[N, H, W, C]`.
    Channel,
    /// All values.
    Whole,
}

/// Statistics of one feature. Those from `min` to `quantiles` are of its finite values, and NaN if
/// it has none. Booleans are the numbers 0 and 1.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureProfile {
    /// Values, with NaN and infinite ones.
    pub count: u64,
    /// The share of values that are NaN, 0 to 1.
    pub missing: f64,
    /// The share of values that are infinite, 0 to 1.
    pub non_finite: f64,
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    /// The standard deviation of the values themselves: the sum of squares is divided by their
    /// count.
    pub std: f64,
    /// The values that [`QUANTILES`] of the values are below: 1, 5, 25, 50, 75, 95 and 99 %.
    pub quantiles: [f64; 7],
    /// The share of finite values without a fraction, 0 to 1.
    pub integral: f64,
    /// The share of finite values that are zero, 0 to 1.
    pub zero: f64,
    /// All distinct values with their shares, ascending by value, if there are at most
    /// [`MAX_VALUES`] and all are finite and whole. Otherwise empty.
    pub values: Vec<(f64, f64)>,
}

/// How raw values become those that the model was trained on. Each list has one number for each
/// feature, or a single one for all.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaler {
    /// `(raw - mean) / scale`: scikit-learn's StandardScaler, and the Normalization layer of Keras.
    Standard { mean: Vec<f64>, scale: Vec<f64> },
    /// `(raw - min) / (max - min) * (to.1 - to.0) + to.0`: scikit-learn's MinMaxScaler.
    MinMax { min: Vec<f64>, max: Vec<f64>, to: (f64, f64) },
    /// `(raw - center) / scale`: scikit-learn's RobustScaler.
    Robust { center: Vec<f64>, scale: Vec<f64> },
}

/// Statistics of strings.
#[derive(Debug, Clone, PartialEq)]
pub struct TextProfile {
    pub count: u64,
    /// The share of strings without any byte, 0 to 1.
    pub empty: f64,
    /// Lengths in bytes.
    pub length: FeatureProfile,
    /// Strings with their shares, the most frequent first, at most [`MAX_VALUES`].
    pub values: Vec<(String, f64)>,
    /// Whether `values` has every string that occurred.
    pub complete: bool,
}

impl By {
    pub(super) const ALL: [(Self, &'static str); 3] =
        [(Self::Feature, "feature"), (Self::Channel, "channel"), (Self::Whole, "whole")];

    /// Reads `feature`, `channel` or `whole`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(by, _)| *by)
    }

    /// `feature`, `channel` or `whole`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Feature => "feature",
            Self::Channel => "channel",
            Self::Whole => "whole",
        }
    }
}

impl TensorProfile {
    /// How people refer to a feature: its name, else its position.
    pub fn name_of(&self, feature: usize) -> String {
        self.names.get(feature).cloned().unwrap_or_else(|| feature.to_string())
    }
}

impl FeatureProfile {
    /// The statistics of no values.
    pub fn empty() -> Self {
        Self {
            count: 0,
            missing: 0.0,
            non_finite: 0.0,
            min: f64::NAN,
            max: f64::NAN,
            mean: f64::NAN,
            std: f64::NAN,
            quantiles: [f64::NAN; 7],
            integral: 0.0,
            zero: 0.0,
            values: Vec::new(),
        }
    }

    /// Whether there was a finite value, so that `min` to `quantiles` are numbers.
    pub fn has_values(&self) -> bool {
        !self.mean.is_nan()
    }
}

impl Scaler {
    /// `standard`, `min_max` or `robust`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Standard { .. } => "standard",
            Self::MinMax { .. } => "min_max",
            Self::Robust { .. } => "robust",
        }
    }

    /// Whether every feature gets a finite number.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn check(&self) -> Result<(), String> {
        let (first, second) = self.lists();
        if first.is_empty() || second.is_empty() {
            return Err("the scaler has no numbers".to_owned());
        }
        if first.len() != second.len() && first.len() != 1 && second.len() != 1 {
            return Err(format!("the scaler has {} numbers and {}", first.len(), second.len()));
        }
        let bad = (0..self.width()).find(|feature| {
            let finite =
                |(factor, offset): (f64, f64)| factor.is_finite() && offset.is_finite() && factor != 0.0;
            !self.affine(*feature).is_some_and(finite)
        });
        match bad {
            None => Ok(()),
            Some(feature) => {
                Err(format!("the scaler cannot be computed for feature {feature} (a scale of 0?)"))
            }
        }
    }

    /// Features that it has numbers for; 1 if the same numbers are for all.
    pub fn width(&self) -> usize {
        let (first, second) = self.lists();
        first.len().max(second.len())
    }

    /// The two lists of numbers, in the order of their names in the variant.
    pub fn lists(&self) -> (&[f64], &[f64]) {
        match self {
            Self::Standard { mean: first, scale: second }
            | Self::MinMax { min: first, max: second, .. }
            | Self::Robust { center: first, scale: second } => (first, second),
        }
    }

    /// The pair `(factor, offset)` of a feature: scaled = raw * factor + offset. `None` if it has
    /// no numbers for this feature.
    pub fn affine(&self, feature: usize) -> Option<(f64, f64)> {
        let (first, second) = self.lists();
        let of = |list: &[f64]| if list.len() == 1 { list.first() } else { list.get(feature) }.copied();
        let (first, second) = (of(first)?, of(second)?);
        Some(match self {
            Self::Standard { .. } | Self::Robust { .. } => (1.0 / second, -first / second),
            Self::MinMax { to, .. } => {
                // A constant feature: scikit-learn divides by 1 (`_handle_zeros_in_scale`).
                let range = if second == first { 1.0 } else { second - first };
                let factor = (to.1 - to.0) / range;
                (factor, to.0 - first * factor)
            }
        })
    }
}
