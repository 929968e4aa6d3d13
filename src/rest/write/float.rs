//! float32 as TF Serving prints it: six significant digits if they give the same number back, else
//! nine (`json_tensor.cc`).
//!
//! A value is m * 2^e with 24 bits of m. Its nine digits are m times a power of ten, in fixed
//! point: one multiplication of 64 bits, with 64 bits behind the point. The power is rounded down,
//! so the product is too small by less than m of its units. Where that much could change a digit,
//! which is rare, the digits are found slowly.
use super::digits::{ROOM, ZEROS, eight, layout, special};
use super::powers;

/// The binary exponents of m * 2^e with the high bit of m set: of subnormal numbers too.
const LOWEST: i32 = -149 - 23;
const HIGHEST: i32 = 127 - 23;
const ROWS: usize = (HIGHEST - LOWEST + 1) as usize;

const HIDDEN: u32 = 1 << 23;
const NINE_DIGITS: u32 = 1_000_000_000;

/// For each exponent the m from which on the value has one more digit before the point.
static THRESHOLDS: [u32; ROWS] = thresholds();
/// For each exponent what m is multiplied by, below the threshold and from it on.
static SCALES: [[Scale; 2]; ROWS] = scales();

/// What m is multiplied by.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// A power of ten, rounded down.
    unit: u64,
    /// How far m is moved to have 64 bits behind the point.
    shift: u8,
    /// Further than this from the value, in units of the ninth digit, is another number.
    reach: u8,
    /// The power of ten of the first digit.
    exponent: i8,
}

const fn scales() -> [[Scale; 2]; ROWS] {
    const POWERS: [u128; powers::LEN] = powers::table();
    let mut rows = [[Scale { unit: 0, shift: 0, reach: 0, exponent: 0 }; 2]; ROWS];
    let mut e = LOWEST;
    while e <= HIGHEST {
        let mut more = 0;
        while more < 2 {
            let exponent = powers::decimal_exponent(e + 23) + more as i32;
            let unit = powers::leading_64_bits(&POWERS, 8 - exponent);
            let shift = 1 + powers::exponent(8 - exponent) + e;
            assert!(shift > 0 && shift < 8);
            let reach = (unit >> (64 - shift)) as u8 / 2 + 2;
            let scale = Scale { unit, shift: shift as u8, reach, exponent: exponent as i8 };
            rows[(e - LOWEST) as usize][more] = scale;
            more += 1;
        }
        e += 1;
    }
    rows
}

const fn thresholds() -> [u32; ROWS] {
    let scales = scales();
    let mut rows = [0; ROWS];
    let mut row = 0;
    while row < ROWS {
        let Scale { unit, shift, .. } = scales[row][0];
        let threshold = ((NINE_DIGITS as u128) << 64).div_ceil((unit as u128) << shift);
        rows[row] = if threshold < 2 * HIDDEN as u128 { threshold as u32 } else { 2 * HIDDEN };
        row += 1;
    }
    rows
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
    #[inline]
    fn new(m: u32, e: i32) -> Self {
        let row = (e - LOWEST) as usize;
        let scale = &SCALES[row][usize::from(m >= THRESHOLDS[row])];
        let product = u128::from(u64::from(m) << scale.shift) * u128::from(scale.unit);
        Self { scale, product, m, e }
    }

    /// The value rounded to nine digits, to even digits in the middle. It can be 10^9.
    #[inline]
    fn nine_digits(&self) -> u32 {
        let (whole, fraction) = ((self.product >> 64) as u32, self.product as u64);
        if (1_u64 << 63).wrapping_sub(fraction) <= u64::from(self.m) << self.scale.shift {
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
    #[inline]
    fn gives_back(&self, digits: u32, subnormal: u32, parsed: impl FnOnce() -> bool) -> bool {
        // In units of the ninth digit, with 32 bits behind the point; one unit off at most.
        let value = (self.product >> 32) as u64;
        let distance = (u64::from(digits) << 32).abs_diff(value);
        let ulp = self.scale.unit >> (32 - self.scale.shift) << subnormal;
        // Below a power of two the neighbour is half as far away.
        if 4 * (distance + 2) < ulp || (2 * (distance + 2) < ulp && self.m != HIDDEN) {
            return true;
        }
        2 * distance <= ulp + 4 && parsed()
    }
}

#[cold]
#[inline(never)]
fn near_the_middle(whole: u32, middle: bool, m: u32, e: i32, exponent: i32) -> u32 {
    // Powers of ten up to 10^27 are exact in 64 bits.
    if (0..=27).contains(&(8 - exponent)) {
        return if middle { whole + (whole & 1) } else { whole };
    }
    let text = format!("{:.8e}", f64::from(m) * 2_f64.powi(e));
    let digits: String = text.split('e').next().unwrap_or_default().split('.').collect();
    // Fewer digits are those of 10^9, which were cut.
    digits.parse().map_or(whole, |digits: u32| if digits < whole { NINE_DIGITS } else { digits })
}

/// The digits of a number, before they are laid out.
#[derive(Debug, Clone, Copy)]
struct Prepared {
    /// The digits but the first, as text.
    text: u64,
    value: f32,
    first: u8,
    /// How many digits are left when trailing zeros are cut.
    count: u8,
    exponent: i8,
    /// The precision that `%g` is given. 0 if the number is not normal and nothing is prepared.
    precision: u8,
}

impl Prepared {
    const NONE: Self = Self { text: 0, value: 0.0, first: 0, count: 0, exponent: 0, precision: 0 };

    #[inline]
    fn new(value: f32) -> Self {
        let bits = value.to_bits();
        let biased = (bits >> 23 & 0xff) as i32;
        if biased == 0 || biased == 255 {
            return Self { value, ..Self::NONE };
        }
        Self::of(&Fixed::new(bits & (HIDDEN - 1) | HIDDEN, biased - 150), 0, value)
    }

    /// `subnormal` is how far m was moved to have its high bit set.
    #[inline]
    fn of(fixed: &Fixed, subnormal: u32, value: f32) -> Self {
        let digits = fixed.nine_digits();
        let exponent = i32::from(fixed.scale.exponent);
        let six = (digits + 500) / 1000;
        if u64::from((six * 1000).abs_diff(digits)) < u64::from(fixed.scale.reach) << subnormal
            && fixed.gives_back(six * 1000, subnormal, || parses_to(six, exponent - 5, value))
        {
            return Self::digits(six * 1000, exponent, 6, value);
        }
        Self::digits(digits, exponent, 9, value)
    }

    #[inline]
    fn digits(digits: u32, exponent: i32, precision: u8, value: f32) -> Self {
        let (digits, exponent) =
            if digits >= NINE_DIGITS { (NINE_DIGITS / 10, exponent + 1) } else { (digits, exponent) };
        let rest = eight(digits % 100_000_000);
        Self {
            text: rest | ZEROS,
            value,
            first: b'0' + (digits / 100_000_000) as u8,
            count: 9 - (rest.leading_zeros() / 8) as u8,
            exponent: exponent as i8,
            precision,
        }
    }

    /// Writes the number and returns its length.
    #[inline]
    fn write(self, out: &mut [u8; ROOM]) -> usize {
        let index = (self.exponent + 4) as u8;
        if index >= PLACED.min(self.precision + 4) || self.precision == 0 {
            return self.write_unusual(out);
        }
        let place = &PLACES[usize::from(index) & 15];
        out[0] = b'-';
        let at = usize::from(self.value.is_sign_negative());
        // The masks change nothing: they show that all of it fits.
        let to = |offset: u8| (at + usize::from(offset)) & 15;
        put(out, at, ZEROS);
        out[to(place.first)] = self.first;
        put(out, to(place.first + 1), self.text);
        put(out, to(place.rest), self.text >> (place.whole & 63));
        out[to(place.point)] = b'.';
        at + usize::from((self.count + place.around).max(place.least))
    }

    /// Writes a number in exponent form, without a fraction, or that is not normal.
    #[inline(never)]
    fn write_unusual(self, out: &mut [u8; ROOM]) -> usize {
        if self.precision > 0 {
            let mut all = [b'0'; 24];
            all[0] = self.first;
            all[1..9].copy_from_slice(&self.text.to_le_bytes());
            let negative = self.value.is_sign_negative();
            let (count, exponent) = (usize::from(self.count), i32::from(self.exponent));
            return layout(&all, count, exponent, i32::from(self.precision), negative, out);
        }
        if let Some(text) = special(f64::from(self.value)) {
            out[..text.len()].copy_from_slice(text.as_bytes());
            return text.len();
        }
        let m = self.value.to_bits() & (HIDDEN - 1);
        let shift = m.leading_zeros() - 8;
        Self::of(&Fixed::new(m << shift, -149 - shift as i32), shift, self.value).write(out)
    }
}

/// Writes a number and returns its length.
#[inline]
pub(super) fn write(value: f32, out: &mut [u8; ROOM]) -> usize {
    Prepared::new(value).write(out)
}

#[cold]
#[inline(never)]
fn parses_to(digits: u32, scale: i32, value: f32) -> bool {
    format!("{digits}e{scale}").parse() == Ok(value.abs())
}

/// Where nine digits go in fixed form.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Where the first digit is.
    first: u8,
    point: u8,
    /// How many digits but the first are before the point, in bits, and where the others are.
    whole: u8,
    rest: u8,
    /// The length without digits that are cut, and the least length.
    around: u8,
    least: u8,
}

/// For the exponents from -4 to 7. With 8 there is nothing behind the point.
static PLACES: [Place; 16] = places();
const PLACED: u8 = 12;

const fn places() -> [Place; 16] {
    let mut places = [Place { first: 0, point: 1, whole: 0, rest: 0, around: 0, least: 0 }; 16];
    let mut at = 0;
    while at < PLACED as usize {
        places[at] = if at < 4 {
            // 0.000123456789
            let first = 5 - at as u8;
            Place { first, point: 1, whole: 0, rest: first + 1, around: first, least: 0 }
        } else {
            // 12345.6789: behind the point, the digits are written again.
            let whole = at as u8 - 4;
            Place {
                first: 0,
                point: whole + 1,
                whole: 8 * whole,
                rest: whole + 2,
                around: 1,
                least: whole + 3,
            }
        };
        at += 1;
    }
    places
}

#[inline]
fn put(out: &mut [u8; ROOM], at: usize, bytes: u64) {
    out[at..at + 8].copy_from_slice(&bytes.to_le_bytes());
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
    let half_ulp = u128::from(fixed.scale.unit) << fixed.scale.shift << ulp.clamp(1, 40) >> 1;
    let odd = m >> ulp.clamp(0, 31) & 1 == 1;
    let power_of_two = m == HIDDEN && e + 23 > small.least;
    let mut unit = NINE_DIGITS / 10;
    let digits = loop {
        let digits = (nine + unit / 2) / unit * unit;
        let target = u128::from(digits) << 64;
        let reach = if power_of_two && target < fixed.product { half_ulp / 2 } else { half_ulp };
        let distance = target.abs_diff(fixed.product) + u128::from(odd) * u128::from(m << fixed.scale.shift);
        if distance < reach || unit == 1 || (!odd && distance == reach) {
            break digits;
        }
        unit /= 10;
    };
    Prepared::digits(digits, i32::from(fixed.scale.exponent), 6, value).write(out)
}
