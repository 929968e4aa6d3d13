//! float32 as TF Serving prints it: six significant digits if they give the same number back, else
//! nine (`json_tensor.cc`).
//!
//! A value is m * 2^e with 24 bits of m. Its nine digits are m times a power of ten, in fixed
//! point: one multiplication of 64 bits, with 64 bits behind the point. The power is rounded down,
//! so the product is too small by less than m of its units. Where that much could change a digit,
//! which is rare, the digits are found slowly.
use super::digits::{ROOM, eight, sixteen_times_eight, special};
use super::place::{Digits, Precision, UNUSUAL};
use super::powers;

/// The binary exponents of m * 2^e with the high bit of m set: of subnormal numbers too.
const LOWEST: i32 = -149 - 23;
const HIGHEST: i32 = 127 - 23;
const ROWS: usize = (HIGHEST - LOWEST + 1) as usize;

const HIDDEN: u32 = 1 << 23;
const NINE_DIGITS: u32 = 1_000_000_000;
/// How far m is moved before it is multiplied: it has 32 bits then.
const SHIFT: u32 = 8;

/// For each exponent what m is multiplied by.
static ROWS_OF_SCALES: [Row; ROWS] = rows();

/// What m is multiplied by, below a threshold and from it on: there the value has one more digit
/// before the point.
#[derive(Debug, Clone, Copy)]
struct Row {
    scales: [Scale; 2],
    threshold: u32,
}

#[derive(Debug, Clone, Copy)]
struct Scale {
    /// A power of ten, rounded down: times m and 2^[`SHIFT`] it has 64 bits behind the point.
    unit: u64,
    /// Further than this from the value, in units of the ninth digit, is another number.
    reach: u8,
    /// The power of ten of the first digit.
    exponent: i8,
}

const fn rows() -> [Row; ROWS] {
    const POWERS: [u128; powers::LEN] = powers::table();
    const NONE: Scale = Scale { unit: 0, reach: 0, exponent: 0 };
    let mut rows = [Row { scales: [NONE; 2], threshold: 0 }; ROWS];
    let mut e = LOWEST;
    while e <= HIGHEST {
        let scales = [scale(&POWERS, e, 0), scale(&POWERS, e, 1)];
        let threshold = ((NINE_DIGITS as u128) << 64).div_ceil((scales[0].unit as u128) << SHIFT);
        let threshold = if threshold < 2 * HIDDEN as u128 { threshold as u32 } else { 2 * HIDDEN };
        rows[(e - LOWEST) as usize] = Row { scales, threshold };
        e += 1;
    }
    rows
}

const fn scale(powers: &[u128; powers::LEN], e: i32, more: i32) -> Scale {
    let exponent = powers::decimal_exponent(e + 23) + more;
    let shift = 1 + powers::exponent(8 - exponent) + e;
    assert!(shift > 0 && shift < SHIFT as i32);
    let unit = powers::leading_64_bits(powers, 8 - exponent) >> (SHIFT as i32 - shift);
    let reach = (unit >> (64 - SHIFT)) as u8 / 2 + 2;
    Scale { unit, reach, exponent: exponent as i8 }
}

/// A value in fixed point: times 10^(8 - exponent) and 2^64, rounded down.
#[derive(Debug, Clone, Copy)]
struct Fixed {
    scale: &'static Scale,
    product: u128,
    m: u32,
    e: i32,
}

impl Fixed {
    #[inline(always)]
    fn new(m: u32, e: i32) -> Self {
        let row = &ROWS_OF_SCALES[(e - LOWEST) as usize];
        let scale = &row.scales[usize::from(m >= row.threshold)];
        let product = u128::from(m << SHIFT) * u128::from(scale.unit);
        Self { scale, product, m, e }
    }

    /// The value rounded to nine digits, to even digits in the middle. It can be 10^9.
    #[inline(always)]
    fn nine_digits(&self) -> u32 {
        let (whole, fraction) = ((self.product >> 64) as u32, self.product as u64);
        if (1_u64 << 63).wrapping_sub(fraction) <= u64::from(self.m << SHIFT) {
            return near_the_middle(
                whole,
                fraction == 1 << 63,
                self.m,
                self.e,
                i32::from(self.scale.exponent),
            );
        }
        whole + (fraction >> 63) as u32
    }

    /// Whether `digits` are nearer to the value than to its neighbours, which are as far away as
    /// one of m, or 2^`subnormal`. `parsed` decides if that is not certain.
    #[inline(always)]
    fn gives_back(&self, digits: u32, subnormal: u32, parsed: impl FnOnce() -> bool) -> bool {
        // In units of the ninth digit, with 32 bits behind the point; one unit off at most.
        let value = (self.product >> 32) as u64;
        let distance = (u64::from(digits) << 32).abs_diff(value);
        let ulp = self.scale.unit >> (32 - SHIFT) << subnormal;
        // Below a power of two the neighbour is half as far away.
        if 2 * (distance + 2) < ulp >> u32::from(self.m == HIDDEN) {
            return true;
        }
        2 * distance <= ulp + 4 && parsed()
    }
}

#[cold]
#[inline(never)]
fn near_the_middle(whole: u32, middle: bool, m: u32, e: i32, exponent: i32) -> u32 {
    // Powers of ten up to 10^24 have 56 bits without their zeros, and are exact in what is kept.
    if (0..=24).contains(&(8 - exponent)) {
        return if middle { whole + (whole & 1) } else { whole };
    }
    let text = format!("{:.8e}", f64::from(m) * 2_f64.powi(e));
    let digits: String = text.split('e').next().unwrap_or_default().split('.').collect();
    // Fewer digits are those of 10^9, which were cut.
    digits.parse().map_or(whole, |digits: u32| if digits < whole { NINE_DIGITS } else { digits })
}

/// So many numbers are written together. What takes long to compute for one of them is then
/// computed for others meanwhile, and some of it for four at a time.
pub(super) const BLOCK: usize = 16;

/// Numbers whose digits are known.
#[derive(Debug)]
pub(super) struct Block {
    values: [f32; BLOCK],
    digits: [Digits; BLOCK],
    /// `Digits::rest` of each as text.
    rests: [u64; BLOCK],
}

impl Block {
    pub(super) fn new(values: [f32; BLOCK]) -> Self {
        let digits = values.map(digits_of);
        Self { values, digits, rests: sixteen_times_eight(digits.map(|digits| digits.rest)) }
    }

    /// Writes one of them and returns its length.
    #[inline(always)]
    pub(super) fn write(&self, at: usize, out: &mut [u8; ROOM]) -> usize {
        let at = at % BLOCK;
        match self.digits[at].write(self.rests[at], out) {
            Some(length) => length,
            None => write_unusual(self.values[at], out),
        }
    }
}

/// Writes one number and returns its length.
pub(super) fn write(value: f32, out: &mut [u8; ROOM]) -> usize {
    let digits = digits_of(value);
    match digits.write(eight(digits.rest), out) {
        Some(length) => length,
        None => write_unusual(value, out),
    }
}

#[inline(always)]
fn digits_of(value: f32) -> Digits {
    let bits = value.to_bits();
    let biased = bits >> 23 & 0xff;
    if biased == 0 || biased == 255 {
        return Digits { rest: 0, first: 0, place: UNUSUAL, negative: false };
    }
    digits_of_fixed(&Fixed::new(bits & (HIDDEN - 1) | HIDDEN, biased as i32 - 150), 0, value)
}

/// `subnormal` is how far m was moved to have its high bit set.
#[inline(always)]
fn digits_of_fixed(fixed: &Fixed, subnormal: u32, value: f32) -> Digits {
    let mut digits = fixed.nine_digits();
    let mut precision = Precision::Nine;
    let exponent = i32::from(fixed.scale.exponent);
    let six = (digits + 500) / 1000;
    let back = six * 1000;
    if u64::from(back.abs_diff(digits)) < u64::from(fixed.scale.reach) << subnormal
        && fixed.gives_back(back, subnormal, || parses_to(six, exponent - 5, value))
    {
        digits = back;
        precision = Precision::Six;
    }
    Digits::new(digits, exponent, precision, value.is_sign_negative())
}

/// Writes a number that is not normal.
#[inline(never)]
fn write_unusual(value: f32, out: &mut [u8; ROOM]) -> usize {
    if let Some(text) = special(f64::from(value)) {
        out[..text.len()].copy_from_slice(text.as_bytes());
        return text.len();
    }
    let m = value.to_bits() & (HIDDEN - 1);
    let shift = m.leading_zeros() - 8;
    let digits = digits_of_fixed(&Fixed::new(m << shift, -149 - shift as i32), shift, value);
    digits.write(eight(digits.rest), out).unwrap_or(0)
}

#[cold]
#[inline(never)]
fn parses_to(digits: u32, scale: i32, value: f32) -> bool {
    format!("{digits}e{scale}").parse() == Ok(value.abs())
}

/// A floating point type with fewer bits than float32.
#[derive(Debug, Clone, Copy)]
pub(super) struct Small {
    /// The bits of the mantissa behind the point.
    pub(super) mantissa: i32,
    /// The exponent of the smallest normal number.
    pub(super) least: i32,
}

/// Writes a value of a small type with the fewest digits that give it back.
pub(super) fn write_small(value: f32, small: Small, out: &mut [u8; ROOM]) -> usize {
    if let Some(text) = special(f64::from(value)) {
        out[..text.len()].copy_from_slice(text.as_bytes());
        return text.len();
    }
    let bits = value.abs().to_bits();
    let (m, e) = match bits >> 23 {
        0 => {
            let shift = bits.leading_zeros() - 8;
            (bits << shift, -149 - shift as i32)
        }
        biased => (bits & (HIDDEN - 1) | HIDDEN, biased as i32 - 150),
    };
    let fixed = Fixed::new(m, e);
    let nine = fixed.nine_digits();
    // The distance between neighbours, in units of m.
    let ulp = (e + 23).max(small.least) - small.mantissa - e;
    let half_ulp = u128::from(fixed.scale.unit) << SHIFT << ulp.clamp(1, 40) >> 1;
    let odd = m >> ulp.clamp(0, 31) & 1 == 1;
    let power_of_two = m == HIDDEN && e + 23 > small.least;
    let mut unit = NINE_DIGITS / 10;
    let digits = loop {
        let digits = (nine + unit / 2) / unit * unit;
        let target = u128::from(digits) << 64;
        let reach = if power_of_two && target < fixed.product { half_ulp / 2 } else { half_ulp };
        let distance = target.abs_diff(fixed.product) + u128::from(odd) * u128::from(m << SHIFT);
        if distance < reach || unit == 1 || (!odd && distance == reach) {
            break digits;
        }
        unit /= 10;
    };
    let exponent = i32::from(fixed.scale.exponent);
    let digits = Digits::new(digits, exponent, Precision::Six, value.is_sign_negative());
    digits.write(eight(digits.rest), out).unwrap_or(0)
}
