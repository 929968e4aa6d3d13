//! Shapes: of sent tensors, and of signatures, whose sizes can be open.
use std::fmt;
use std::ops::Deref;

use smallvec::SmallVec;

/// TensorFlow refuses shapes with more dimensions.
const MAX_RANK: usize = 254;

/// The dimensions of a tensor, row-major. A sent shape can have negative sizes, which TensorFlow
/// refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(SmallVec<[i64; 6]>);

/// A declared shape, in which -1 stands for any size.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PartialShape {
    UnknownRank,
    Known(Shape),
}

/// Why the elements of a shape cannot be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    #[error("expected a size of at least 0 for dimension {axis}, got {size}")]
    NegativeDim { axis: usize, size: i64 },
    #[error("too many elements (limit {max}) at dimension {axis}", max = i64::MAX)]
    TooManyElements { axis: usize },
    #[error("too many dimensions: {rank} (limit {MAX_RANK})")]
    TooManyDims { rank: usize },
}

// === impl Shape ===

impl Shape {
    /// The shape of a scalar: no dimensions, one element.
    pub fn scalar() -> Self {
        Self::default()
    }

    /// The number of elements. Like TensorFlow it multiplies from left to right, so an overflow of
    /// int64 is an error even if a later dimension is 0.
    ///
    /// # Errors
    /// If a size is negative, or there are too many elements or dimensions.
    pub fn elements(&self) -> Result<u64, ShapeError> {
        if self.rank() > MAX_RANK {
            return Err(ShapeError::TooManyDims { rank: self.rank() });
        }
        let mut elements = 1_i64;
        for (axis, &size) in self.0.iter().enumerate() {
            if size < 0 {
                return Err(ShapeError::NegativeDim { axis, size });
            }
            elements = elements.checked_mul(size).ok_or(ShapeError::TooManyElements { axis })?;
        }
        Ok(elements.unsigned_abs())
    }

    /// Appends a dimension.
    pub fn push(&mut self, size: i64) {
        self.0.push(size);
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Whether no size is negative.
    pub fn is_concrete(&self) -> bool {
        self.0.iter().all(|&size| size >= 0)
    }

    /// Parses `[1,128]`, `1,128` or `[-1, 128]`; a scalar is `[]`. Sizes below -1 are refused.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let inner = match text.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']')?.trim(),
            None if text.is_empty() => return None,
            None => text,
        };
        if inner.is_empty() {
            return Some(Self::scalar());
        }
        inner.split(',').map(|size| size.trim().parse().ok().filter(|&size: &i64| size >= -1)).collect()
    }
}

impl Deref for Shape {
    type Target = [i64];

    fn deref(&self) -> &[i64] {
        &self.0
    }
}

impl From<&[i64]> for Shape {
    fn from(dims: &[i64]) -> Self {
        Self(SmallVec::from_slice(dims))
    }
}

impl<const N: usize> From<[i64; N]> for Shape {
    fn from(dims: [i64; N]) -> Self {
        Self::from(dims.as_slice())
    }
}

impl FromIterator<i64> for Shape {
    fn from_iter<I: IntoIterator<Item = i64>>(dims: I) -> Self {
        Self(dims.into_iter().collect())
    }
}

impl Shape {
    /// Writes `[1,2]`; faster than `Display`, since every repaired request has some.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_to(&self, to: &mut impl fmt::Write) -> fmt::Result {
        let mut digits = itoa::Buffer::new();
        to.write_str("[")?;
        for (axis, size) in self.0.iter().enumerate() {
            if axis > 0 {
                to.write_str(",")?;
            }
            to.write_str(digits.format(*size))?;
        }
        to.write_str("]")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

// === impl PartialShape ===

impl PartialShape {
    /// Whether a tensor of this shape conforms: no size is negative, the rank is the same, and each
    /// size is equal or declared -1.
    pub fn accepts(&self, shape: &Shape) -> bool {
        let fits = |dims: &[i64]| {
            dims.len() == shape.rank()
                && dims.iter().zip(&shape.0).all(|(&want, &size)| want < 0 || want == size)
        };
        shape.is_concrete() && self.dims().is_none_or(fits)
    }

    /// The number of dimensions, if it is known.
    pub fn rank(&self) -> Option<usize> {
        self.dims().map(<[i64]>::len)
    }

    /// The declared sizes, if the rank is known.
    pub fn dims(&self) -> Option<&[i64]> {
        match self {
            Self::UnknownRank => None,
            Self::Known(shape) => Some(shape),
        }
    }

    /// Parses the same as [`Shape::parse`], and `unknown rank`.
    pub fn parse(text: &str) -> Option<Self> {
        if text.trim().eq_ignore_ascii_case("unknown rank") {
            return Some(Self::UnknownRank);
        }
        Shape::parse(text).map(Self::Known)
    }
}

impl fmt::Display for PartialShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownRank => f.write_str("unknown rank"),
            Self::Known(shape) => shape.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements<const N: usize>(dims: [i64; N]) -> Result<u64, ShapeError> {
        Shape::from(dims).elements()
    }

    #[test]
    fn elements_are_counted_as_in_tensorflow() {
        assert_eq!(elements([]), Ok(1));
        assert_eq!(elements([2, 3, 4]), Ok(24));
        assert_eq!(elements([0, 1 << 62]), Ok(0));
        assert_eq!(elements([1 << 62, 0]), Ok(0));
        assert_eq!(elements([i64::MAX]), Ok(i64::MAX as u64));
        assert_eq!(elements([1 << 62, 1 << 62, 0]), Err(ShapeError::TooManyElements { axis: 1 }));
        assert_eq!(elements([1 << 62, 2]), Err(ShapeError::TooManyElements { axis: 1 }));
        assert_eq!(elements([0, -1]), Err(ShapeError::NegativeDim { axis: 1, size: -1 }));
        assert_eq!(elements([1; 254]), Ok(1));
        assert_eq!(elements([1; 255]), Err(ShapeError::TooManyDims { rank: 255 }));
    }

    #[test]
    fn shapes_are_parsed_and_printed() {
        let dims = |text| Shape::parse(text).map(|shape| shape.to_vec());
        assert_eq!(dims("[1,128]"), Some(vec![1, 128]));
        assert_eq!(dims("1,128"), Some(vec![1, 128]));
        assert_eq!(dims(" [ -1, 128 ] "), Some(vec![-1, 128]));
        assert_eq!(dims("7"), Some(vec![7]));
        assert_eq!(dims("[]"), Some(vec![]));
        for wrong in
            ["", "[", "]", "[1", "1]", "[1,]", ",", "[-2]", "[a]", "[1;2]", "[9223372036854775808]", "[[1]]"]
        {
            assert_eq!(dims(wrong), None, "{wrong}");
        }
        for text in ["[]", "[1]", "[-1,128]", "[1,2,3,4,5,6,7,8]"] {
            assert_eq!(Shape::parse(text).unwrap().to_string(), text);
            assert_eq!(PartialShape::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(PartialShape::parse("unknown rank"), Some(PartialShape::UnknownRank));
        assert_eq!(PartialShape::UnknownRank.to_string(), "unknown rank");
        assert_eq!(PartialShape::UnknownRank.rank(), None);
    }

    #[test]
    fn a_declared_shape_accepts_only_conforming_shapes() {
        let accepts = |declared: &str, sent: &str| {
            PartialShape::parse(declared).unwrap().accepts(&Shape::parse(sent).unwrap())
        };
        for (declared, sent) in [
            ("[-1,128]", "[1,128]"),
            ("[-1,128]", "[0,128]"),
            ("[]", "[]"),
            ("[2]", "[2]"),
            ("unknown rank", "[3,4]"),
        ] {
            assert!(accepts(declared, sent), "{declared} {sent}");
        }
        for (declared, sent) in [
            ("[-1,128]", "[128]"),
            ("[-1,128]", "[1,127]"),
            ("[-1]", "[]"),
            ("[1]", "[]"),
            ("[-1]", "[-1]"),
            ("unknown rank", "[-1]"),
        ] {
            assert!(!accepts(declared, sent), "{declared} {sent}");
        }
    }
}
