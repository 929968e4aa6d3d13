//! float64 as TF Serving prints it: six significant digits if they give the same number back, else
//! 17 (`json_tensor.cc`). The method is that of `float`, with 128 bits of the power of ten.
use std::cmp::Ordering;

use super::digits::{Decimal, ROOM, special, write_17};
use super::powers;

const HIDDEN: u64 = 1 << 52;
const SEVENTEEN_DIGITS: u64 = 100_000_000_000_000_000;
/// The unit of the sixth of 17 digits.
const SIXTH: u64 = 100_000_000_000;

/// A value in fixed point.
#[derive(Debug, Clone, Copy)]
struct Fixed {
    /// The value times 10^(16 - exponent), times 2^shift. It is too small by less than 2.
    product: u128,
    /// The next 64 bits of the product.
    low: u64,
    shift: u32,
    /// What one unit of m is in `product`, rounded down.
    unit: u64,
    exponent: i32,
}

impl Fixed {
    fn new(m: u64, e: i32, exponent: i32) -> Self {
        let power = 16 - exponent;
        let leading = powers::leading_bits(power);
        let low = u128::from(m) * u128::from(leading as u64);
        let unit = (leading >> 64) as u64;
        let product = u128::from(m) * u128::from(unit) + (low >> 64);
        let shift = (63 - powers::exponent(power) - e) as u32;
        Self { product, low: low as u64, shift, unit, exponent }
    }

    fn whole(&self) -> u64 {
        (self.product >> self.shift) as u64
    }

    /// The value rounded to 17 digits, to even digits in the middle. It can be 10^17.
    fn digits(&self, value: f64) -> u64 {
        let whole = self.whole();
        let half = 1_u128 << (self.shift - 1);
        let fraction = self.product & (2 * half - 1);
        // Powers of ten up to 10^55 are exact in 128 bits.
        if (0..=55).contains(&(16 - self.exponent)) {
            return match (fraction, self.low).cmp(&(half, 0)) {
                Ordering::Less => whole,
                Ordering::Equal => whole + (whole & 1),
                Ordering::Greater => whole + 1,
            };
        }
        match fraction {
            _ if fraction > half => whole + 1,
            _ if fraction + 2 < half => whole,
            _ => slowly(value).unwrap_or(whole),
        }
    }
}

#[cold]
fn slowly(value: f64) -> Option<u64> {
    let text = format!("{:.16e}", value.abs());
    let (digits, _) = text.split_once('e')?;
    let digits: String = digits.split('.').collect();
    digits.parse().ok()
}

/// Writes a number and returns its length.
pub(super) fn write(value: f64, out: &mut [u8; ROOM]) -> usize {
    if let Some(text) = special(value) {
        out[..text.len()].copy_from_slice(text.as_bytes());
        return text.len();
    }
    let bits = value.abs().to_bits();
    let (m, e, subnormal) = match bits >> 52 {
        0 => {
            let shift = bits.leading_zeros() - 11;
            (bits << shift, -1074 - shift as i32, shift)
        }
        biased => (bits & (HIDDEN - 1) | HIDDEN, biased as i32 - 1075, 0),
    };
    let exponent = powers::decimal_exponent(e + 52);
    let mut fixed = Fixed::new(m, e, exponent);
    if fixed.whole() >= SEVENTEEN_DIGITS {
        fixed = Fixed::new(m, e, exponent + 1);
    }
    let (mut digits, mut exponent, mut precision) = (fixed.digits(value), fixed.exponent, 17);
    let six = (digits + SIXTH / 2) / SIXTH;
    // In units of the last digit, rounded up, the interval of the value reaches this far.
    let reach = (u128::from(fixed.unit) << subnormal >> fixed.shift) / 2 + 2;
    if u128::from((six * SIXTH).abs_diff(digits)) < reach && gives_back(&fixed, six, value) {
        digits = six * SIXTH;
        precision = 6;
    }
    if digits >= SEVENTEEN_DIGITS {
        digits /= 10;
        exponent += 1;
    }
    write_17(Decimal { digits, exponent, precision }, value.is_sign_negative(), out)
}

/// Whether six digits give the value back.
fn gives_back(fixed: &Fixed, six: u64, value: f64) -> bool {
    let target = u128::from(six * SIXTH) << fixed.shift;
    // Nothing else is so near: a quarter of a unit is half of the way to a smaller neighbour.
    if target.abs_diff(fixed.product) < u128::from(fixed.unit / 4 - 2) {
        return true;
    }
    format!("{six}e{}", fixed.exponent - 5).parse() == Ok(value.abs())
}
