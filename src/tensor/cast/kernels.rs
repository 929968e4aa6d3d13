//! Straight loops for the everyday pairs, which the compiler vectorises. Whatever has none goes through the
//! lanes.
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::Exactness;
use super::lanes::BLOCK;
use super::values::power_of_two;
use crate::tensor::dtype::DataType;

/// A pair's own loops, over blocks of at most [`BLOCK`] lanes.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Fills the second slice from the first.
    pub(super) convert: fn(&[u8], &mut [u8]),
    /// Whether every value is exact in the target.
    exact: Test,
    /// Whether every value has a nearest one in the target.
    round: Test,
}

type Test = fn(&[u8]) -> bool;

impl Kernel {
    /// The test for this strictness: `true` says that all values of the block pass, `false` that one does
    /// not.
    pub(super) fn test(&self, exactness: Exactness) -> Test {
        match exactness {
            Exactness::Exact => self.exact,
            Exactness::Round => self.round,
        }
    }
}

/// The loops of a pair of real dtypes, if it has its own.
pub(super) fn kernel(from: DataType, to: DataType) -> Option<&'static Kernel> {
    use DataType as D;
    Some(match (from, to) {
        (D::DOUBLE, D::FLOAT) => &const { checked!(f64 => f32, double_is_float, double_is_near_float) },
        (D::FLOAT, D::DOUBLE) => &const { exact!(f32 => f64) },
        (D::HALF, D::FLOAT) => &const { halves!(f16, f32, convert_to_f32_slice) },
        (D::HALF, D::DOUBLE) => &const { halves!(f16, f64, convert_to_f64_slice) },
        (D::BFLOAT16, D::FLOAT) => &const { halves!(bf16, f32, convert_to_f32_slice) },
        (D::BFLOAT16, D::DOUBLE) => &const { halves!(bf16, f64, convert_to_f64_slice) },
        (D::INT8, D::FLOAT) => &const { exact!(i8 => f32) },
        (D::INT8, D::DOUBLE) => &const { exact!(i8 => f64) },
        (D::INT16, D::FLOAT) => &const { exact!(i16 => f32) },
        (D::INT16, D::DOUBLE) => &const { exact!(i16 => f64) },
        (D::UINT8, D::FLOAT) => &const { exact!(u8 => f32) },
        (D::UINT8, D::DOUBLE) => &const { exact!(u8 => f64) },
        (D::UINT16, D::FLOAT) => &const { exact!(u16 => f32) },
        (D::UINT16, D::DOUBLE) => &const { exact!(u16 => f64) },
        (D::INT32, D::DOUBLE) => &const { exact!(i32 => f64) },
        (D::UINT32, D::DOUBLE) => &const { exact!(u32 => f64) },
        // Every integer has a nearest float: only `Exact` can fail.
        (D::INT32, D::FLOAT) => &const { checked!(i32 => f32, |v| f64::from(v as f32) == f64::from(v), any) },
        (D::UINT32, D::FLOAT) => {
            &const { checked!(u32 => f32, |v| f64::from(v as f32) == f64::from(v), any) }
        }
        (D::INT64, D::FLOAT) => &const { wide_ints!(i64 => f32, -(1 << 24)..=1 << 24) },
        (D::INT64, D::DOUBLE) => &const { wide_ints!(i64 => f64, -(1 << 53)..=1 << 53) },
        (D::UINT64, D::FLOAT) => &const { wide_ints!(u64 => f32, 0..=1 << 24) },
        (D::UINT64, D::DOUBLE) => &const { wide_ints!(u64 => f64, 0..=1 << 53) },
        (D::INT64, D::INT32) => &const { checked!(i64 => i32, is_int32, is_int32) },
        (D::INT32, D::INT64) => &const { exact!(i32 => i64) },
        (D::UINT8, D::INT32) => &const { exact!(u8 => i32) },
        (D::UINT8, D::INT64) => &const { exact!(u8 => i64) },
        _ => return None,
    })
}

macro_rules! exact {
    ($from:ty => $to:ty) => {
        checked!($from => $to, any, any)
    };
}

macro_rules! checked {
    ($from:ty => $to:ty, $exact:expr, $round:expr) => {
        Kernel {
            convert: |src, dst| map(src, dst, |bytes| (<$from>::from_le_bytes(bytes) as $to).to_le_bytes()),
            exact: |src| all(src, |bytes| $exact(<$from>::from_le_bytes(bytes))),
            round: |src| all(src, |bytes| $round(<$from>::from_le_bytes(bytes))),
        }
    };
}

/// From 64 bits, where the processor converts one value at a time: a block of small integers is known to be
/// exact without converting any.
macro_rules! wide_ints {
    ($from:ty => $to:ty, $small:expr) => {
        Kernel {
            exact: |src| {
                let is_small = |value: $from| ($small).contains(&value);
                // `as` saturates, so that the greatest integer would seem to come back from the float above
                // it.
                let comes_back = |value: $from| (value as $to) as $from == value && value != <$from>::MAX;
                all(src, |bytes| is_small(<$from>::from_le_bytes(bytes)))
                    || all(src, |bytes| comes_back(<$from>::from_le_bytes(bytes)))
            },
            ..checked!($from => $to, any, any)
        }
    };
}

/// `half` converts slices with the processor's instructions, eight times as fast as value by value.
macro_rules! halves {
    ($from:ty, $to:ty, $convert:ident) => {
        Kernel {
            convert: |src, dst| {
                let (mut halves, mut wide) = ([<$from>::ZERO; BLOCK], [0.0; BLOCK]);
                let (bytes, _) = src.as_chunks();
                let (halves, wide) = (&mut halves[..bytes.len()], &mut wide[..bytes.len()]);
                for (half, bytes) in halves.iter_mut().zip(bytes) {
                    *half = <$from>::from_le_bytes(*bytes);
                }
                halves.$convert(wide);
                for (bytes, value) in dst.as_chunks_mut().0.iter_mut().zip(wide) {
                    *bytes = <$to>::to_le_bytes(*value);
                }
            },
            exact: |_| true,
            round: |_| true,
        }
    };
}

use {checked, exact, halves, wide_ints};

fn map<const A: usize, const B: usize>(src: &[u8], dst: &mut [u8], convert: impl Fn([u8; A]) -> [u8; B]) {
    for (out, bytes) in dst.as_chunks_mut::<B>().0.iter_mut().zip(src.as_chunks::<A>().0) {
        *out = convert(*bytes);
    }
}

/// Looks at every value, without an early end: a loop without branches is vectorised, and a sum of u64 better
/// than a conjunction of bools.
fn all<const A: usize>(src: &[u8], passes: impl Fn([u8; A]) -> bool) -> bool {
    src.as_chunks::<A>().0.iter().map(|bytes| u64::from(!passes(*bytes))).sum::<u64>() == 0
}

fn any<T>(_: T) -> bool {
    true
}

fn is_int32(value: i64) -> bool {
    value == i64::from(value as i32)
}

fn double_is_float(value: f64) -> bool {
    f64::from(value as f32) == value || value.is_nan()
}

/// Whether rounding keeps a finite value finite. NaN and the infinities stay what they are.
fn double_is_near_float(value: f64) -> bool {
    /// Halfway between the largest float and the power of two above it; the tie goes to infinity.
    const OVERFLOW: f64 = f32::MAX as f64 + power_of_two(103);
    let magnitude = value.abs();
    !(OVERFLOW..f64::INFINITY).contains(&magnitude)
}
