//! The descriptor of a tensor: name, dtype, shape, and which field holds the values.
use std::fmt;

use crate::tensor::{DataType, Shape, ValueList};

/// Where a tensor's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Nowhere: no value was sent.
    Nothing,
    /// In `tensor_content`.
    Content,
    /// In a typed list. It may have fewer values than elements; TensorFlow then repeats the last
    /// one.
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

/// A tensor at one point of a plan. A step is described by the descriptors before and after it, so
/// a new rule needs no new kind of step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The key in the request's `inputs`.
    pub key: String,
    pub dtype: DataType,
    pub shape: Shape,
    pub encoding: Encoding,
    /// Number of encoded elements: the element count, or fewer if TensorFlow repeats the last one.
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
