//! Declared transforms: what the operator has the sidecar do to the content of an input (tier 3).
//!
//! A transform is a fact about one model that only its owner knows, such as the scaler that was not
//! exported. They are made in the order of the stages, whatever the order of the list: text and
//! bytes are decoded and dtypes relabelled before the checks of dtype and shape, axes are moved and
//! numbers changed after them. Casting, moving and changing numbers is one pass over the values.
#[cfg(feature = "image")]
mod image;
#[cfg(not(feature = "image"))]
#[path = "no_image.rs"]
mod image;
mod images;
pub(in crate::repair) mod made;
mod numbers;
mod pass;
mod planned;
mod profile;
mod raw;
mod scatter;
mod strings;
mod suits;

use std::fmt;
use std::sync::Arc;

pub use numbers::Numbers;
pub(in crate::repair) use planned::plan;
pub use profile::{Bound, Ratio, bind};
pub use raw::CERTAIN;
pub use suits::unsuited;

use super::Repair;
use super::rules;
use crate::tensor::{DataType, Shape};

/// The transforms of one input, as the configuration declares them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Transforms {
    /// In the order of the file.
    pub list: Vec<Transform>,
    /// What the profile of the input says, once it is read ([`bind`]).
    pub bound: Option<Arc<Bound>>,
}

/// One transform.
#[derive(Debug, Clone, PartialEq)]
pub enum Transform {
    /// `(x - mean) / std` by feature, or as the scaler of the profile does.
    Standardize(Standardize),
    /// `x * factor + offset`.
    Scale { factor: Arc<[f64]>, offset: Arc<[f64]> },
    /// To the range of these two.
    Clip { low: f64, high: f64 },
    /// Axis `i` of the result is axis `axes[i]` of what was sent, as in NumPy.
    Transpose(Arc<[usize]>),
    /// Each string from base64 to the bytes that it stands for.
    DecodeBase64,
    /// Each string from the bytes of an image file to pixels.
    DecodeImage(Image),
    /// The bytes of a tensor that is labelled `from` are read as `to`.
    RelabelDtype { from: DataType, to: DataType },
    /// Each string in lower case.
    Lowercase,
}

/// Where the numbers of `standardize` come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Standardize {
    /// The scaler of the profile, or its two sides.
    FromProfile,
    /// One for all features, or one for each.
    Given { mean: Arc<[f64]>, std: Arc<[f64]> },
}

/// How `decode_image` makes pixels of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Image {
    pub resize: Resize,
    pub channels: Channels,
}

/// What is done with an image of another size than the model declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resize {
    /// The request is refused.
    #[default]
    Off,
    /// Scaled to the declared size, as `tf.image.resize` does by default.
    Bilinear,
}

/// The order of the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Channels {
    #[default]
    Rgb,
    Bgr,
    Gray,
}

/// Which requests are transformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum When {
    #[default]
    Always,
    /// Only those whose values match the `raw` side of the profile and not the other.
    Raw,
}

/// The order in which transforms are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Before the check of the dtype.
    Decode,
    /// After the check of the shape.
    Transpose,
    /// After that.
    Numbers,
}

impl Transform {
    pub fn phase(&self) -> Phase {
        match self {
            Self::DecodeBase64 | Self::DecodeImage(_) | Self::RelabelDtype { .. } | Self::Lowercase => {
                Phase::Decode
            }
            Self::Transpose(_) => Phase::Transpose,
            Self::Standardize(_) | Self::Scale { .. } | Self::Clip { .. } => Phase::Numbers,
        }
    }

    /// The rule that it is reported as.
    pub fn rule(&self) -> &'static Repair {
        match self {
            Self::Standardize(_) => &rules::STANDARDIZE,
            Self::Scale { .. } => &rules::SCALE,
            Self::Clip { .. } => &rules::CLIP,
            Self::Transpose(_) => &rules::TRANSPOSE,
            Self::DecodeBase64 => &rules::DECODE_BASE64,
            Self::DecodeImage(_) => &rules::DECODE_IMAGE,
            Self::RelabelDtype { .. } => &rules::RELABEL_DTYPE,
            Self::Lowercase => &rules::LOWERCASE,
        }
    }

    pub fn name(&self) -> &'static str {
        self.rule().name
    }
}

/// What the values are before and after, as `old->new` in the metadata of the answer. Axes and
/// dtypes are in the descriptors.
impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standardize(_) => f.write_str("raw->standardized"),
            Self::Scale { factor, offset } => match (&factor[..], &offset[..]) {
                ([factor], [0.0]) => write!(f, "x->x*{factor}"),
                ([factor], [offset]) => write!(f, "x->x*{factor}{offset:+}"),
                _ => f.write_str("x->x*factor+offset"),
            },
            Self::Clip { low, high } => write!(f, "x->clip(x;{low};{high})"),
            Self::Transpose(axes) => {
                let axes: Shape = axes.iter().map(|axis| *axis as i64).collect();
                write!(f, "axes->{axes}")
            }
            Self::DecodeBase64 => f.write_str("base64->bytes"),
            Self::DecodeImage(_) => f.write_str("image->pixels"),
            Self::RelabelDtype { from, to } => write!(f, "{from}->{to}"),
            Self::Lowercase => f.write_str("text->lowercase"),
        }
    }
}

impl Transforms {
    /// Those of one phase, in the order of the file.
    pub fn of(&self, phase: Phase) -> impl Iterator<Item = &Transform> {
        self.list.iter().filter(move |transform| transform.phase() == phase)
    }

    /// The axes of `transpose`, if it is declared.
    pub fn axes(&self) -> Option<&Arc<[usize]>> {
        self.list.iter().find_map(|transform| match transform {
            Transform::Transpose(axes) => Some(axes),
            _ => None,
        })
    }

    pub fn has_numbers(&self) -> bool {
        self.of(Phase::Numbers).next().is_some()
    }

    /// Whether a transform needs the profile of the input.
    pub fn needs_profile(&self) -> bool {
        self.list.iter().any(|one| matches!(one, Transform::Standardize(Standardize::FromProfile)))
    }

    /// What is done to the numbers, in order. `None` while the profile is not read, or if it has no
    /// scaler and no raw side.
    pub(in crate::repair) fn numbers(&self) -> Option<Vec<Numbers>> {
        let one = |transform: &Transform| match transform {
            Transform::Standardize(Standardize::FromProfile) => self.bound.as_ref()?.scaler.clone(),
            Transform::Standardize(Standardize::Given { mean, std }) => {
                Some(Numbers::Standardize { mean: mean.clone(), std: std.clone() })
            }
            Transform::Scale { factor, offset } => {
                Some(Numbers::Scale { factor: factor.clone(), offset: offset.clone() })
            }
            Transform::Clip { low, high } => Some(Numbers::Clip { low: *low, high: *high }),
            _ => None,
        };
        self.of(Phase::Numbers).map(one).collect()
    }
}

/// The declared shape as it is before the axes are moved; `None` if the axes are not those of the
/// shape.
pub(in crate::repair) fn before_transpose(declared: &[i64], axes: &[usize]) -> Option<Shape> {
    if declared.len() != axes.len() {
        return None;
    }
    let mut before = declared.to_vec();
    for (to, from) in axes.iter().enumerate() {
        *before.get_mut(*from)? = declared[to];
    }
    Some(Shape::from(&before[..]))
}
