//! From a number in the body to the bytes of an element, for each dtype.
use super::Options;
use super::cursor::byte;
use super::finding::Kind;
use super::float::{self, Format};
use super::number::{Decimal, Number, Plain};
use crate::tensor::{Class, DataType};

/// How the values of a dtype are written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Codec {
    Float,
    Double,
    /// Half, bfloat16 and the floats of one byte.
    Narrow(&'static Format, usize),
    Int(Int),
    Bool,
    /// Strings, as fields of `string_val`.
    Text,
    /// Dtypes without values.
    None,
}

/// The range of an integer dtype.
#[derive(Debug, Clone, Copy)]
pub(super) struct Int {
    size: usize,
    min: i64,
    max: u64,
    /// Whether TF Serving reads it as an int32 and drops the upper bits (`AddValueToTensor`,
    /// json_tensor.cc).
    wraps: bool,
}

/// The bytes of an element: the first `size` of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element {
    pub(super) bits: u64,
    pub(super) repaired: Option<Kind>,
}

// === impl Codec ===

impl Codec {
    /// The codec of a dtype. A complex number is two reals.
    pub(super) fn of(dtype: DataType) -> Self {
        let Some(info) = dtype.info() else { return Self::None };
        match (dtype, info.class, info.size) {
            (DataType::FLOAT | DataType::COMPLEX64, ..) => Self::Float,
            (DataType::DOUBLE | DataType::COMPLEX128, ..) => Self::Double,
            (_, Class::Bool, _) => Self::Bool,
            (_, Class::String, _) => Self::Text,
            (_, Class::Float, Some(size)) => {
                Format::of(dtype).map_or(Self::None, |format| Self::Narrow(format, size))
            }
            (_, Class::Signed | Class::Unsigned | Class::Quantized, Some(size)) => {
                Self::Int(Int::of(dtype, size))
            }
            _ => Self::None,
        }
    }

    /// Bytes of an element; 0 if they vary.
    pub(super) fn size(self) -> usize {
        match self {
            Self::Float => 4,
            Self::Double => 8,
            Self::Narrow(_, size) => size,
            Self::Int(int) => int.size,
            Self::Bool => 1,
            Self::Text | Self::None => 0,
        }
    }

    /// Whether the values are numbers.
    pub(super) fn is_numeric(self) -> bool {
        !matches!(self, Self::Bool | Self::Text | Self::None)
    }

    /// The bytes of a number of any form.
    ///
    /// # Errors
    /// Why the dtype does not have it.
    pub(super) fn element(self, body: &[u8], number: &Number, options: &Options) -> Result<Element, Kind> {
        if number.too_big {
            return Err(Kind::TooBig);
        }
        let finite = number.special.is_none();
        let bits = match self {
            Self::Float => {
                let value = float::float_of(body, number);
                if finite && value.is_infinite() && !options.as_served {
                    return Err(Kind::OutOfRange);
                }
                u64::from(value.to_bits())
            }
            Self::Double => {
                let value = float::double_of(body, number);
                if finite && value.is_infinite() && !options.as_served {
                    return Err(Kind::OutOfRange);
                }
                value.to_bits()
            }
            Self::Narrow(format, _) => format.of_number(body, number).ok_or(Kind::OutOfRange)?,
            Self::Int(int) => return int.element(body, number, options),
            Self::Bool => {
                let value = finite.then(|| Decimal::new(&body[number.start..number.end]).integral().ok());
                let bits = value.flatten().filter(|value| *value <= 1);
                let positive = bits == Some(0) || byte(body, number.start) != b'-';
                let bits = bits.filter(|_| positive).ok_or(Kind::NumberForBool)?;
                if !options.bool_numbers {
                    return Err(Kind::BitForBool);
                }
                return Ok(Element { bits, repaired: Some(Kind::NumberAsBool) });
            }
            Self::Text => return Err(Kind::NumberForString),
            Self::None => return Err(Kind::UnsupportedDtype),
        };
        Ok(Element { bits, repaired: None })
    }

    /// The bytes of a number in its usual form; `None` if [`Codec::element`] must look at it.
    #[inline]
    pub(super) fn quick(self, plain: &Plain) -> Option<u64> {
        match self {
            Self::Float => float::quick_float(plain).map(|value| u64::from(value.to_bits())),
            Self::Double => float::quick_double(plain).map(f64::to_bits),
            Self::Narrow(format, _) => format.quick(plain),
            Self::Int(int) => int.quick(plain),
            Self::Bool | Self::Text | Self::None => None,
        }
    }
}

// === impl Int ===

impl Int {
    fn of(dtype: DataType, size: usize) -> Self {
        let (signed, bits) = match dtype {
            DataType::INT2 => (true, 2),
            DataType::INT4 => (true, 4),
            DataType::UINT2 => (false, 2),
            DataType::UINT4 => (false, 4),
            DataType::QINT8 | DataType::QINT16 | DataType::QINT32 => (true, 8 * size),
            _ => (dtype.info().is_some_and(|info| info.class == Class::Signed), 8 * size),
        };
        let wraps = matches!(dtype, DataType::INT32 | DataType::INT16 | DataType::INT8 | DataType::UINT8);
        let all = u64::MAX >> (64 - bits);
        let (min, max) = if signed { (-((all / 2) as i64) - 1, all / 2) } else { (0, all) };
        Self { size, min, max, wraps }
    }

    #[inline(always)]
    fn has(&self, negative: bool, magnitude: u64) -> bool {
        magnitude <= if negative { self.min.unsigned_abs() } else { self.max }
    }

    #[inline(always)]
    pub(super) fn quick(&self, plain: &Plain) -> Option<u64> {
        let fits = plain.integer && self.has(plain.negative, plain.mantissa);
        fits.then(|| bits(plain.negative, plain.mantissa))
    }

    fn element(&self, body: &[u8], number: &Number, options: &Options) -> Result<Element, Kind> {
        if number.special.is_some() {
            return Err(Kind::OutOfRange);
        }
        let value = Decimal::new(&body[number.start..number.end]);
        let magnitude = value.integral()?;
        if !number.integer && !options.integral_floats {
            return Err(Kind::Inexact);
        }
        let int32 = Self { size: 4, min: i64::from(i32::MIN), max: i32::MAX as u64, wraps: true };
        let served =
            options.as_served && self.wraps && number.integer && int32.has(value.negative, magnitude);
        if !self.has(value.negative, magnitude) && !served {
            return Err(Kind::OutOfRange);
        }
        let repaired = (!number.integer).then_some(Kind::IntegralFloat);
        Ok(Element { bits: bits(value.negative, magnitude), repaired })
    }
}

/// Two's complement; the caller knows that it fits.
#[inline(always)]
fn bits(negative: bool, magnitude: u64) -> u64 {
    if negative { magnitude.wrapping_neg() } else { magnitude }
}
