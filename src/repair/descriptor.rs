//! What a rule sees of a tensor and what it turns it into: name, dtype, shape, and which field
//! carries the values.
use std::fmt;

use crate::tensor::{DataType, Shape, ValueList};

/// Where a tensor's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Nowhere: no value was sent, and none is needed.
    Nothing,
    /// In `tensor_content`.
    Content,
    /// In a typed list: as many values as elements, or fewer of them, the last of which TensorFlow
    /// repeats.
    List(ValueList),
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Content => "tensor_content",
            Self::List(list) => list.name(),
        })
    }
}

/// A tensor at one point of a plan. A step's parameters are the descriptors before and after it, so
/// a new rule needs no new kind of step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The key in the request's `inputs`.
    pub key: String,
    pub dtype: DataType,
    pub shape: Shape,
    pub encoding: Encoding,
    /// Elements that are encoding: the element count, or fewer where TensorFlow repeats the last
    /// one.
    pub values: u64,
}

impl Descriptor {
    pub fn with_shape(&self, shape: Shape) -> Self {
        Self { shape, ..self.clone() }
    }

    pub fn with_dtype(&self, dtype: DataType) -> Self {
        Self { dtype, ..self.clone() }
    }
}
