//! Simple loops for common pairs of dtypes, which the compiler vectorises. All other pairs go
//! through the lanes.
use std::ops::BitOr;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::Exactness;
use super::lanes::BLOCK;
use super::values::power_of_two;
use crate::tensor::dtype::DataType;

/// The loops of one pair of dtypes.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Appends the converted lanes.
    pub(super) convert: fn(&[u8], &mut Vec<u8>),
    /// Whether the target has every value exactly.
    exact: Test,
    /// Whether every value can be rounded to the target.
    round: Test,
}

/// A test of a block of at most [`BLOCK`] lanes.
type Test = fn(&[u8]) -> bool;

impl Kernel {
    /// The test for this exactness. `false` means that some value of the block may not pass.
    pub(super) fn test(&self, exactness: Exactness) -> Test {
        match exactness {
            Exactness::Exact => self.exact,
            Exactness::Round => self.round,
        }
    }
}

/// The loops of a pair of real dtypes, if there are any.
pub(super) fn kernel(from: DataType, to: DataType) -> Option<&'static Kernel> {
    use DataType as D;
    Some(match (from, to) {
        (D::DOUBLE, D::FLOAT) => {
            &const {
                Kernel {
                    round: |src| {
                        doubles_are_far_from_overflow(src)
                            || all(src, |bytes| double_is_near_float(f64::from_le_bytes(bytes)))
                    },
                    ..checked!(f64 => f32, double_is_float, any)
                }
            }
        }
        (D::FLOAT, D::DOUBLE) => &const { exact!(f32 => f64) },
        (D::HALF, D::FLOAT) => &const { halves!(f16, f32, convert_to_f32_slice) },
        (D::HALF, D::DOUBLE) => &const { halves!(f16, f64, convert_to_f64_slice) },
        (D::BFLOAT16, D::FLOAT) => &const { halves!(bf16, f32, convert_to_f32_slice) },
        (D::BFLOAT16, D::DOUBLE) => &const { halves!(bf16, f64, convert_to_f64_slice) },
        (D::FLOAT, D::HALF) => &const { into_halves!(f16) },
        (D::FLOAT, D::BFLOAT16) => &const { into_halves!(bf16) },
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
        // Every integer can be rounded to a float, so only `Exact` can fail.
        (D::INT32, D::FLOAT) => &const { checked!(i32 => f32, |v| f64::from(v as f32) == f64::from(v), any) },
        (D::UINT32, D::FLOAT) => {
            &const { checked!(u32 => f32, |v| f64::from(v as f32) == f64::from(v), any) }
        }
        (D::INT64, D::FLOAT) => &const { wide_ints!(i64 => f32, 1 << 24, 25) },
        (D::INT64, D::DOUBLE) => &const { wide_ints!(i64 => f64, 1 << 53, 54) },
        (D::UINT64, D::FLOAT) => &const { wide_ints!(u64 => f32, 0, 24) },
        (D::UINT64, D::DOUBLE) => &const { wide_ints!(u64 => f64, 0, 53) },
        (D::INT64, D::INT32) => {
            &const {
                Kernel {
                    exact: |src| are_below(src, 1 << 31, 32),
                    round: |src| are_below(src, 1 << 31, 32),
                    ..exact!(i64 => i32)
                }
            }
        }
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
            convert: |src, dst| {
                append(src, dst, |bytes| (<$from>::from_le_bytes(bytes) as $to).to_le_bytes())
            },
            exact: |src| all(src, |bytes| $exact(<$from>::from_le_bytes(bytes))),
            round: |src| all(src, |bytes| $round(<$from>::from_le_bytes(bytes))),
        }
    };
}

/// From 64-bit integers, which the processor converts one at a time. A block of small integers (of
/// `$bits` bits after `$offset` is added) is exact without converting any.
macro_rules! wide_ints {
    ($from:ty => $to:ty, $offset:expr, $bits:literal) => {
        Kernel {
            exact: |src| {
                // `as` saturates: the largest integer would seem to come back from the float above
                // it.
                let comes_back = |value: $from| (value as $to) as $from == value && value != <$from>::MAX;
                are_below(src, $offset, $bits) || all(src, |bytes| comes_back(<$from>::from_le_bytes(bytes)))
            },
            ..checked!($from => $to, any, any)
        }
    };
}

/// The `half` crate converts slices with special instructions, eight times as fast as single
/// values.
macro_rules! halves {
    ($from:ty, $to:ty, $convert:ident) => {
        Kernel {
            convert: |src, dst| {
                let (mut halves, mut wide) = ([<$from>::ZERO; BLOCK], [0.0; BLOCK]);
                for bytes in src.as_chunks().0.chunks(BLOCK) {
                    let (halves, wide) = (&mut halves[..bytes.len()], &mut wide[..bytes.len()]);
                    for (half, bytes) in halves.iter_mut().zip(bytes) {
                        *half = <$from>::from_le_bytes(*bytes);
                    }
                    halves.$convert(wide);
                    dst.extend(wide.iter().flat_map(|value| <$to>::to_le_bytes(*value)));
                }
            },
            exact: |_| true,
            round: |_| true,
        }
    };
}

/// To halves, also in slices. The test converts the result back and compares. There is no such
/// kernel from float64: with the processor's instruction, `half` goes through float32 and rounds
/// twice.
macro_rules! into_halves {
    ($to:ty) => {
        Kernel {
            convert: |src, dst| {
                let (mut floats, mut halves) = ([0.0; BLOCK], [<$to>::ZERO; BLOCK]);
                for bytes in src.as_chunks().0.chunks(BLOCK) {
                    let (floats, halves) = (&mut floats[..bytes.len()], &mut halves[..bytes.len()]);
                    read_floats(bytes, floats);
                    halves.convert_from_f32_slice(floats);
                    dst.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
                }
            },
            exact: |src| <[$to]>::come_back(src, |value, back| value == back || value.is_nan()),
            round: |src| <[$to]>::come_back(src, |value, back| back.is_finite() || !value.is_finite()),
        }
    };
}

fn read_floats(bytes: &[[u8; 4]], floats: &mut [f32]) {
    for (float, bytes) in floats.iter_mut().zip(bytes) {
        *float = f32::from_le_bytes(*bytes);
    }
}

/// A block of floats as halves and back.
trait ComeBack {
    fn come_back(src: &[u8], passes: impl Fn(f32, f32) -> bool) -> bool;
}

macro_rules! come_back {
    ($half:ty) => {
        impl ComeBack for [$half] {
            fn come_back(src: &[u8], passes: impl Fn(f32, f32) -> bool) -> bool {
                let (mut floats, mut halves, mut back) = ([0.0; BLOCK], [<$half>::ZERO; BLOCK], [0.0; BLOCK]);
                let bytes = src.as_chunks().0;
                let lanes = bytes.len().min(BLOCK);
                let (floats, halves, back) = (&mut floats[..lanes], &mut halves[..lanes], &mut back[..lanes]);
                read_floats(bytes, floats);
                halves.convert_from_f32_slice(floats);
                halves.convert_to_f32_slice(back);
                let failed = floats.iter().zip(&*back).map(|(value, back)| u64::from(!passes(*value, *back)));
                failed.sum::<u64>() == 0
            }
        }
    };
}

come_back!(f16);
come_back!(bf16);

use {checked, exact, halves, into_halves, wide_ints};

/// Appends an iterator of known length: the vector grows once and no buffer is needed.
fn append<const A: usize, const B: usize>(
    src: &[u8],
    dst: &mut Vec<u8>,
    convert: impl Fn([u8; A]) -> [u8; B],
) {
    dst.extend(src.as_chunks().0.iter().flat_map(|bytes| convert(*bytes)));
}

/// The bitwise or of all words. Sixteen accumulators avoid a dependency chain.
fn union<T>(src: &[u8], word: impl Fn([u8; 8]) -> T) -> T
where
    T: BitOr<Output = T> + Default + Copy,
{
    const SIDE_BY_SIDE: usize = 16;
    let mut unions = [T::default(); SIDE_BY_SIDE];
    let (rounds, rest) = src.as_chunks::<8>().0.as_chunks::<SIDE_BY_SIDE>();
    for round in rounds {
        for (union, bytes) in unions.iter_mut().zip(round) {
            *union = *union | word(*bytes);
        }
    }
    for (union, bytes) in unions.iter_mut().zip(rest) {
        *union = *union | word(*bytes);
    }
    unions.into_iter().fold(T::default(), |all, one| all | one)
}

/// Whether all integers, after `offset` is added, fit in this many bits without a sign.
fn are_below(src: &[u8], offset: u64, bits: u32) -> bool {
    union(src, |bytes| u64::from_le_bytes(bytes).wrapping_add(offset)) >> bits == 0
}

/// Whether the magnitude of all values is below 2^127, by their upper halves alone: the common
/// case, as fast as reading the bytes. Larger values need the full test, even NaN and infinities.
fn doubles_are_far_from_overflow(src: &[u8]) -> bool {
    /// The upper half of 2^127.
    const FAR: u32 = (power_of_two(127).to_bits() >> 32) as u32;
    // The top bit of a magnitude is clear; the addition sets it if the magnitude is at least `FAR`.
    let upper = |bytes| (u64::from_le_bytes(bytes) >> 32) as u32 & 0x7fff_ffff;
    union(src, |bytes| upper(bytes) + ((1 << 31) - FAR)) >> 31 == 0
}

/// Tests every value without an early exit: a loop without branches is vectorised, and a sum of u64
/// better than a conjunction of bools.
fn all<const A: usize>(src: &[u8], passes: impl Fn([u8; A]) -> bool) -> bool {
    src.as_chunks::<A>().0.iter().map(|bytes| u64::from(!passes(*bytes))).sum::<u64>() == 0
}

fn any<T>(_: T) -> bool {
    true
}

fn double_is_float(value: f64) -> bool {
    f64::from(value as f32) == value || value.is_nan()
}

/// Whether rounding keeps a finite value finite. NaN and infinities do not change.
fn double_is_near_float(value: f64) -> bool {
    /// Halfway between the largest float and the power of two above it. The tie rounds to infinity.
    const OVERFLOW: f64 = f32::MAX as f64 + power_of_two(103);
    let magnitude = value.abs();
    !(OVERFLOW..f64::INFINITY).contains(&magnitude)
}
