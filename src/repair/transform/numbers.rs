//! What is done to numbers, in float64, whatever dtypes they come from and go to.
use std::sync::Arc;

/// A change of numbers. The lists have one number for all features or one for each.
///
/// The operations are those of NumPy and scikit-learn in the same order, so that the results are
/// the same numbers: a division is not replaced by a multiplication.
#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    /// `(x - mean) / std`
    Standardize { mean: Arc<[f64]>, std: Arc<[f64]> },
    /// `x * factor + offset`
    Scale { factor: Arc<[f64]>, offset: Arc<[f64]> },
    /// NaN stays NaN.
    Clip { low: f64, high: f64 },
}

impl Numbers {
    /// The number of features; `None` if all are treated alike.
    pub fn features(&self) -> Option<usize> {
        let (one, other) = match self {
            Self::Standardize { mean, std } => (mean.len(), std.len()),
            Self::Scale { factor, offset } => (factor.len(), offset.len()),
            Self::Clip { .. } => return None,
        };
        Some(one.max(other)).filter(|features| *features > 1)
    }

    /// Changes consecutive values, of which the first has this index.
    pub(super) fn change(&self, values: &mut [f64], first: usize, layout: Layout) {
        match self {
            Self::Standardize { mean, std } => {
                layout.each(values, first, mean, std, |value, mean, std| (value - mean) / std);
            }
            Self::Scale { factor, offset } => {
                layout.each(values, first, factor, offset, |value, factor, offset| value * factor + offset);
            }
            Self::Clip { low, high } => {
                for value in values {
                    *value = value.clamp(*low, *high);
                }
            }
        }
    }
}

/// Where the features are: value `i` is of feature `i / stride % features`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub features: usize,
    /// 1 where the features are the last axis.
    pub stride: usize,
}

impl Layout {
    fn each(
        self,
        values: &mut [f64],
        first: usize,
        left: &[f64],
        right: &[f64],
        change: impl Fn(f64, f64, f64) -> f64,
    ) {
        if let ([left], [right]) = (left, right) {
            for value in values {
                *value = change(*value, *left, *right);
            }
            return;
        }
        let of = |list: &[f64], feature: usize| list.get(feature).or(list.first()).copied().unwrap_or(0.0);
        let (features, stride) = (self.features.max(1), self.stride.max(1));
        let (mut feature, mut within) = (first / stride % features, first % stride);
        for value in values {
            *value = change(*value, of(left, feature), of(right, feature));
            within += 1;
            if within == stride {
                within = 0;
                feature += 1;
                if feature == features {
                    feature = 0;
                }
            }
        }
    }
}
