//! Decimal numbers rounded once to a float dtype, however narrow.
use std::cmp::Ordering;

use super::number::{Decimal, Number, Plain, parse};
use crate::tensor::DataType;

/// The largest power of ten that is a double exactly.
const MAX_EXACT_POWER: i32 = 22;
/// Every integer up to this one is a double exactly.
const MAX_EXACT_INTEGER: u64 = 1 << 53;
/// Powers of ten for approximations: a number of 19 digits that is still a float32, subnormal ones
/// included, needs no larger one.
const POWERS: [f64; 65] = powers();
/// An approximation is off by 3 units in the last place at most: the mantissa, the power and the
/// operation are each rounded once.
const DOUBT: u64 = 4;

/// A float format below float32. Patterns of one sign ascend with their values.
#[derive(Debug)]
pub(super) struct Format {
    dtype: DataType,
    mantissa_bits: i32,
    /// Exponent of the smallest normal number.
    min_exponent: i32,
    /// Pattern of the largest finite number.
    max: u64,
    infinity: Option<u64>,
    nan: Option<u64>,
    sign: u64,
    has_minus_zero: bool,
    /// A number halfway between two of the format has at most so many significant decimal digits.
    digits: usize,
}

const fn format(dtype: DataType, mantissa_bits: i32, min_exponent: i32, max: u64, digits: usize) -> Format {
    Format {
        dtype,
        mantissa_bits,
        min_exponent,
        max,
        infinity: None,
        nan: None,
        sign: 0x80,
        has_minus_zero: true,
        digits,
    }
}

const fn unsigned_zero(format: Format) -> Format {
    Format { nan: Some(0x80), has_minus_zero: false, ..format }
}

const fn ieee(format: Format, infinity: u64, nan: u64, sign: u64) -> Format {
    Format { infinity: Some(infinity), nan: Some(nan), sign, ..format }
}

static FORMATS: [Format; 8] = [
    ieee(format(DataType::HALF, 10, -14, 0x7bff, 48), 0x7c00, 0x7e00, 0x8000),
    ieee(format(DataType::BFLOAT16, 7, -126, 0x7f7f, 144), 0x7f80, 0x7fc0, 0x8000),
    ieee(format(DataType::FLOAT8_E5M2, 2, -14, 0x7b, 32), 0x7c, 0x7e, 0x80),
    Format { nan: Some(0x7f), ..format(DataType::FLOAT8_E4M3FN, 3, -6, 0x7e, 32) },
    unsigned_zero(format(DataType::FLOAT8_E4M3FNUZ, 3, -7, 0x7f, 32)),
    unsigned_zero(format(DataType::FLOAT8_E4M3B11FNUZ, 3, -10, 0x7f, 32)),
    unsigned_zero(format(DataType::FLOAT8_E5M2FNUZ, 2, -15, 0x7f, 32)),
    Format { sign: 8, ..format(DataType::FLOAT4_E2M1FN, 1, 0, 7, 32) },
];

const fn powers() -> [f64; 65] {
    // Compiled as literals, which are rounded correctly; products would not be.
    [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
        1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31, 1e32, 1e33, 1e34,
        1e35, 1e36, 1e37, 1e38, 1e39, 1e40, 1e41, 1e42, 1e43, 1e44, 1e45, 1e46, 1e47, 1e48, 1e49, 1e50, 1e51,
        1e52, 1e53, 1e54, 1e55, 1e56, 1e57, 1e58, 1e59, 1e60, 1e61, 1e62, 1e63, 1e64,
    ]
}

/// The magnitude to within [`DOUBT`] units in the last place; `None` if its parts are too large.
#[inline(always)]
fn approximate(plain: &Plain) -> Option<f64> {
    let power = *POWERS.get(plain.exponent.unsigned_abs() as usize)?;
    // The conversion of a signed integer is one instruction.
    let mantissa = i64::try_from(plain.mantissa).ok()? as f64;
    Some(if plain.exponent < 0 { mantissa / power } else { mantissa * power })
}

/// No branch, since a processor cannot predict the signs of numbers in a body.
#[inline(always)]
fn signed(negative: bool, magnitude: f64) -> f64 {
    f64::from_bits(magnitude.to_bits() | u64::from(negative) << 63)
}

/// Whether the text is an integer zero with a sign: `-0`, which RapidJSON reads as the integer 0.
fn is_integer_zero(plain: &Plain) -> bool {
    plain.integer && plain.mantissa == 0
}

/// The nearest float32; `None` if that takes a closer look, which [`float_of`] does.
#[inline(always)]
pub(super) fn quick_float(plain: &Plain) -> Option<f32> {
    /// Every integer up to this one is a float32 exactly.
    const EXACT: u64 = 1 << 24;
    const HALF: u64 = 1 << 28;
    /// Biased exponents of the doubles that are normal float32s, without the largest ones.
    const FIRST: u64 = 1023 - 126;
    const COUNT: u64 = 253;
    if plain.integer && plain.mantissa <= EXACT {
        let mantissa = plain.mantissa as i32;
        return Some((if plain.negative { -mantissa } else { mantissa }) as f32);
    }
    let bits = approximate(plain)?.to_bits();
    // What the double has beyond a float32: half of its last place is the doubtful point.
    let beyond = bits & (2 * HALF - 1);
    let certain = beyond.wrapping_sub(HALF - DOUBT) > 2 * DOUBT && (bits >> 52).wrapping_sub(FIRST) < COUNT;
    if certain {
        return Some(signed(plain.negative, f64::from_bits(bits)) as f32);
    }
    (plain.mantissa == 0).then(|| signed(plain.negative && !plain.integer, 0.0) as f32)
}

/// The nearest double, if one operation on exact operands gives it.
#[inline(always)]
pub(super) fn quick_double(plain: &Plain) -> Option<f64> {
    let exact = plain.mantissa <= MAX_EXACT_INTEGER && plain.exponent.abs() <= MAX_EXACT_POWER;
    if !exact && plain.mantissa != 0 {
        return None;
    }
    let magnitude = if plain.mantissa == 0 { 0.0 } else { approximate(plain)? };
    Some(signed(plain.negative && !is_integer_zero(plain), magnitude))
}

/// The nearest double to a number in its usual form; `None` if it is out of range.
#[inline(always)]
pub(super) fn double(plain: &Plain, text: &[u8]) -> Option<f64> {
    quick_double(plain).or_else(|| Some(parse(text)).filter(|value| value.is_finite()))
}

/// The nearest float32 to a number of any form; infinite if there is none.
pub(super) fn float_of(body: &[u8], number: &Number) -> f32 {
    match number.special {
        Some(special) => special as f32,
        None => {
            let text = std::str::from_utf8(&body[number.start..number.end]).unwrap_or_default();
            let value: f32 = text.parse().unwrap_or(f32::NAN);
            if number.integer && value == 0.0 { 0.0 } else { value }
        }
    }
}

/// The nearest double to a number of any form; infinite if there is none.
pub(super) fn double_of(body: &[u8], number: &Number) -> f64 {
    match number.special {
        Some(special) => special,
        None => {
            let value = parse(&body[number.start..number.end]);
            if number.integer && value == 0.0 { 0.0 } else { value }
        }
    }
}

// === impl Format ===

impl Format {
    pub(super) fn of(dtype: DataType) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.dtype == dtype)
    }

    /// The pattern of the nearest number; `None` if that takes a closer look or there is none.
    #[inline]
    pub(super) fn quick(&self, plain: &Plain) -> Option<u64> {
        let negative = plain.negative && !is_integer_zero(plain);
        if plain.mantissa == 0 {
            return Some(self.with_sign(0, negative));
        }
        let value = approximate(plain)?;
        let bits = value.to_bits();
        let beyond = 52 - self.mantissa_bits;
        let halfway = (bits & ((1 << beyond) - 1)).abs_diff(1 << (beyond - 1));
        let normal = (bits >> 52) as i32 - 1023 >= self.min_exponent;
        let exact = plain.exponent == 0 && plain.mantissa <= MAX_EXACT_INTEGER;
        let pattern = self.round(value);
        let certain = exact || normal && halfway > DOUBT;
        (certain && pattern <= self.max).then(|| self.with_sign(pattern, negative))
    }

    /// The pattern of the nearest number to a number of any form; `None` if it is out of range.
    pub(super) fn of_number(&self, body: &[u8], number: &Number) -> Option<u64> {
        if let Some(special) = number.special {
            let pattern = if special.is_nan() { self.nan } else { self.infinity };
            return pattern.map(|pattern| if special < 0.0 { pattern | self.sign } else { pattern });
        }
        let text = &body[number.start..number.end];
        let value = double_of(body, number);
        let magnitude = value.abs();
        let mut pattern = self.round(magnitude);
        if magnitude.is_finite() && magnitude > 0.0 {
            // Where the double is halfway between two numbers, the digits that it lost decide.
            let below = self.round(f64::from_bits(magnitude.to_bits() - 1));
            let above = self.round(f64::from_bits(magnitude.to_bits() + 1));
            if below != above {
                pattern = match Decimal::new(text).compare(magnitude, self.digits) {
                    Ordering::Less => below,
                    Ordering::Greater => above,
                    Ordering::Equal => pattern,
                };
            }
        }
        (pattern <= self.max).then(|| self.with_sign(pattern, value.is_sign_negative()))
    }

    fn with_sign(&self, pattern: u64, negative: bool) -> u64 {
        let signed = negative && (pattern != 0 || self.has_minus_zero);
        if signed { pattern | self.sign } else { pattern }
    }

    /// The pattern nearest to a magnitude, ties to even, as if the exponent had no upper limit.
    fn round(&self, magnitude: f64) -> u64 {
        /// Above it, no format of the table has numbers.
        const HUGE: f64 = 1e60;
        if magnitude >= HUGE {
            return u64::MAX;
        }
        let exponent = (magnitude.to_bits() >> 52) as i32 - 1023;
        let exponent = exponent.max(self.min_exponent);
        // Units of the last place: a double holds the quotient exactly, unless it is far below 1.
        let units = magnitude * power_of_two(self.mantissa_bits - exponent);
        let units = units.round_ties_even() as u64;
        (((exponent - self.min_exponent) as u64) << self.mantissa_bits) + units
    }
}

/// 2^exponent for the exponents of normal doubles.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}
