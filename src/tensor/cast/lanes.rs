//! The general cast: each real dtype has a reader from bytes to wide numbers and a writer back.
//!
//! This needs one reader and one writer for each dtype instead of a function for each pair. A
//! complex element is two lanes of its real dtype.
use half::{bf16, f16};

use super::values::{FloatFormat, IntRange, ValueSet};
use crate::tensor::dtype::DataType;
use crate::tensor::float8;

/// Number of lanes processed at once: few enough for the stack and the L1 cache.
pub(super) const BLOCK: usize = 512;

/// The byte representation of a real dtype.
#[derive(Debug)]
pub(super) struct Lane {
    /// Size of one lane in bytes.
    pub(super) size: usize,
    pub(super) codec: Codec,
}

/// How a lane's bytes are read (whole lanes into as many numbers) and written.
#[derive(Debug)]
pub(super) enum Codec {
    Int {
        range: IntRange,
        read: fn(&[u8], &mut [i128]),
        /// Keeps the low bits of a value that is out of range.
        write: fn(&[i128], &mut [u8]),
    },
    Float {
        format: FloatFormat,
        read: fn(&[u8], &mut [f64]),
        /// Expects results of [`FloatFormat::nearest`]. Values out of range give arbitrary bytes.
        write: fn(&[f64], &mut [u8]),
    },
}

impl Lane {
    /// The numbers that a lane can hold.
    pub(super) fn values(&self) -> ValueSet {
        match self.codec {
            Codec::Int { range, .. } => range.into(),
            Codec::Float { format, .. } => format.into(),
        }
    }
}

/// The lane of a dtype and the number of lanes of an element; `None` for non-numeric dtypes.
pub(super) fn lane(dtype: DataType) -> Option<(&'static Lane, usize)> {
    let lane = match dtype {
        DataType::BOOL => &BOOL,
        DataType::INT2 => &INT2,
        DataType::INT4 => &INT4,
        DataType::INT8 => &INT8,
        DataType::INT16 => &INT16,
        DataType::INT32 => &INT32,
        DataType::INT64 => &INT64,
        DataType::UINT2 => &UINT2,
        DataType::UINT4 => &UINT4,
        DataType::UINT8 => &UINT8,
        DataType::UINT16 => &UINT16,
        DataType::UINT32 => &UINT32,
        DataType::UINT64 => &UINT64,
        DataType::FLOAT4_E2M1FN => &E2M1FN,
        DataType::FLOAT8_E5M2 => &E5M2,
        DataType::FLOAT8_E5M2FNUZ => &E5M2FNUZ,
        DataType::FLOAT8_E4M3FN => &E4M3FN,
        DataType::FLOAT8_E4M3FNUZ => &E4M3FNUZ,
        DataType::FLOAT8_E4M3B11FNUZ => &E4M3B11FNUZ,
        DataType::HALF => &HALF,
        DataType::BFLOAT16 => &BFLOAT16,
        DataType::FLOAT => &FLOAT,
        DataType::DOUBLE => &DOUBLE,
        DataType::COMPLEX64 => return Some((&FLOAT, 2)),
        DataType::COMPLEX128 => return Some((&DOUBLE, 2)),
        _ => return None,
    };
    Some((lane, 1))
}

/// A lane, from its value set and the conversions between its bytes and a wide number.
macro_rules! lanes {
    ($($id:ident: $kind:ident $field:ident, $size:literal, $values:expr, $read:expr, $write:expr;)*) => {
        $(static $id: Lane = Lane {
            size: $size,
            codec: Codec::$kind {
                $field: $values,
                read: |src, lanes| {
                    for (lane, bytes) in lanes.iter_mut().zip(src.as_chunks::<$size>().0) {
                        *lane = $read(*bytes);
                    }
                },
                write: |lanes, dst| {
                    for (bytes, lane) in dst.as_chunks_mut::<$size>().0.iter_mut().zip(lanes) {
                        *bytes = $write(*lane);
                    }
                },
            },
        };)*
    };
}

lanes! {
    // A bool byte that is neither 0 nor 1 is read unchanged, so that `check` refuses it, as
    // TensorFlow does.
    BOOL: Int range, 1, ints(0, 1), |b: [u8; 1]| i128::from(b[0]), |v: i128| [u8::from(v != 0)];
    // The upper bits are cleared when writing, as in ml_dtypes and TensorFlow, and ignored when
    // reading.
    INT2: Int range, 1, ints(-2, 1), |b: [u8; 1]| sign_extend(b[0], 2), |v: i128| [v as u8 & 3];
    INT4: Int range, 1, ints(-8, 7), |b: [u8; 1]| sign_extend(b[0], 4), |v: i128| [v as u8 & 15];
    UINT2: Int range, 1, ints(0, 3), |b: [u8; 1]| i128::from(b[0] & 3), |v: i128| [v as u8 & 3];
    UINT4: Int range, 1, ints(0, 15), |b: [u8; 1]| i128::from(b[0] & 15), |v: i128| [v as u8 & 15];
    INT8: Int range, 1, ints(i8::MIN as i128, i8::MAX as i128),
        |b| i128::from(i8::from_le_bytes(b)), |v| i8::to_le_bytes(v as i8);
    INT16: Int range, 2, ints(i16::MIN as i128, i16::MAX as i128),
        |b| i128::from(i16::from_le_bytes(b)), |v| i16::to_le_bytes(v as i16);
    INT32: Int range, 4, ints(i32::MIN as i128, i32::MAX as i128),
        |b| i128::from(i32::from_le_bytes(b)), |v| i32::to_le_bytes(v as i32);
    INT64: Int range, 8, ints(i64::MIN as i128, i64::MAX as i128),
        |b| i128::from(i64::from_le_bytes(b)), |v| i64::to_le_bytes(v as i64);
    UINT8: Int range, 1, ints(u8::MIN as i128, u8::MAX as i128),
        |b| i128::from(u8::from_le_bytes(b)), |v| u8::to_le_bytes(v as u8);
    UINT16: Int range, 2, ints(u16::MIN as i128, u16::MAX as i128),
        |b| i128::from(u16::from_le_bytes(b)), |v| u16::to_le_bytes(v as u16);
    UINT32: Int range, 4, ints(u32::MIN as i128, u32::MAX as i128),
        |b| i128::from(u32::from_le_bytes(b)), |v| u32::to_le_bytes(v as u32);
    UINT64: Int range, 8, ints(u64::MIN as i128, u64::MAX as i128),
        |b| i128::from(u64::from_le_bytes(b)), |v| u64::to_le_bytes(v as u64);
    E2M1FN: Float format, 1, float(2, -1, 6.0, false, false),
        |b: [u8; 1]| f64::from(float8::E2M1FN.decode(b[0])),
        |v| [float8::E2M1FN.encode(v).unwrap_or(0)];
    E5M2: Float format, 1, float(3, -16, 57344.0, true, true),
        |b: [u8; 1]| f64::from(float8::E5M2.decode(b[0])),
        |v| [float8::E5M2.encode(v).unwrap_or(0)];
    E5M2FNUZ: Float format, 1, float(3, -17, 57344.0, false, true),
        |b: [u8; 1]| f64::from(float8::E5M2FNUZ.decode(b[0])),
        |v| [float8::E5M2FNUZ.encode(v).unwrap_or(0)];
    E4M3FN: Float format, 1, float(4, -9, 448.0, false, true),
        |b: [u8; 1]| f64::from(float8::E4M3FN.decode(b[0])),
        |v| [float8::E4M3FN.encode(v).unwrap_or(0)];
    E4M3FNUZ: Float format, 1, float(4, -10, 240.0, false, true),
        |b: [u8; 1]| f64::from(float8::E4M3FNUZ.decode(b[0])),
        |v| [float8::E4M3FNUZ.encode(v).unwrap_or(0)];
    E4M3B11FNUZ: Float format, 1, float(4, -13, 30.0, false, true),
        |b: [u8; 1]| f64::from(float8::E4M3B11FNUZ.decode(b[0])),
        |v| [float8::E4M3B11FNUZ.encode(v).unwrap_or(0)];
    HALF: Float format, 2, float(11, -24, 65504.0, true, true),
        |b| f16::from_le_bytes(b).to_f64(), |v| f16::from_f64(v).to_le_bytes();
    BFLOAT16: Float format, 2, float(8, -133, BFLOAT16_MAX, true, true),
        |b| bf16::from_le_bytes(b).to_f64(), |v| bf16::from_f64(v).to_le_bytes();
    FLOAT: Float format, 4, FloatFormat::FLOAT,
        |b| f64::from(f32::from_le_bytes(b)), |v| f32::to_le_bytes(v as f32);
    DOUBLE: Float format, 8, FloatFormat::DOUBLE, f64::from_le_bytes, f64::to_le_bytes;
}

/// (2 - 2^-7) * 2^127
const BFLOAT16_MAX: f64 = f32::from_bits(0x7f7f_0000) as f64;

const fn ints(min: i128, max: i128) -> IntRange {
    IntRange { min, max }
}

const fn float(
    precision: i32,
    min_exponent: i32,
    max: f64,
    has_infinity: bool,
    has_nan: bool,
) -> FloatFormat {
    FloatFormat { precision, min_exponent, max, has_infinity, has_nan }
}

/// The low `bits` of a byte as a signed number.
fn sign_extend(byte: u8, bits: u32) -> i128 {
    let above = 8 - bits;
    i128::from(((byte << above) as i8) >> above)
}
