//! Nine digits laid out as `printf("%g")` does: for each exponent a table says where they go.
use super::digits::{ROOM, ZEROS};

const NINE_DIGITS: u32 = 1_000_000_000;

/// The precision that `%g` is given: exponent form begins at ten to the power of it. Its number is
/// the index of its places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precision {
    Six = 0,
    Nine = EXPONENTS as isize,
}

/// Where nine digits go.
#[derive(Debug, Clone, Copy)]
#[repr(align(16))]
struct Place {
    /// Where the first digit is.
    first: u8,
    point: u8,
    /// Half of the bits by which the digits before the point, but the first, are moved away, and
    /// where the others are.
    half: u8,
    rest: u8,
    /// The length without digits that are cut, and the least length.
    around: u8,
    least: u8,
    /// 1 if a digit that is the only one has no point.
    lone: u8,
    /// `e-05` in exponent form.
    tail: [u8; 4],
    tail_length: u8,
}

const LEAST_EXPONENT: i32 = -45;
const EXPONENTS: usize = 84;
/// For each precision and exponent.
static PLACES: [Place; 2 * EXPONENTS] = places();

const fn places() -> [Place; 2 * EXPONENTS] {
    let mut places = [place(0, 0); 2 * EXPONENTS];
    let mut at = 0;
    while at < EXPONENTS {
        places[at] = place(at as i32 + LEAST_EXPONENT, 6);
        places[EXPONENTS + at] = place(at as i32 + LEAST_EXPONENT, 9);
        at += 1;
    }
    places
}

const fn place(exponent: i32, precision: i32) -> Place {
    const NONE: Place = Place {
        first: 0,
        point: 1,
        half: 0,
        rest: 2,
        around: 1,
        least: 0,
        lone: 0,
        tail: [0; 4],
        tail_length: 0,
    };
    if exponent < -4 || exponent >= precision {
        // 1.23456789e-05
        let digits = exponent.unsigned_abs() as u8;
        let sign = if exponent < 0 { b'-' } else { b'+' };
        let tail = [b'e', sign, b'0' + digits / 10, b'0' + digits % 10];
        Place { lone: 1, tail, tail_length: 4, ..NONE }
    } else if exponent < 0 {
        // 0.000123456789
        let first = (1 - exponent) as u8;
        Place { first, rest: first + 1, around: first, ..NONE }
    } else {
        // 12345.6789: behind the point, the digits are written again.
        let whole = exponent as u8;
        Place { point: whole + 1, half: 4 * whole, rest: whole + 2, least: whole + 3, ..NONE }
    }
}

/// The index of a number that cannot be written from its digits.
pub(super) const UNUSUAL: u8 = u8::MAX;

/// Digits of a number, and where they go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digits {
    /// The digits but the first, as a number below 10^8.
    pub(super) rest: u32,
    pub(super) first: u8,
    /// The index of its place, or [`UNUSUAL`].
    pub(super) place: u8,
    pub(super) negative: bool,
}

impl Digits {
    /// Of a number of nine digits, or 10^9. `exponent` is the power of ten of the first digit, one
    /// that a float32 can have.
    #[inline(always)]
    pub(super) fn new(digits: u32, exponent: i32, precision: Precision, negative: bool) -> Self {
        let more = digits >= NINE_DIGITS;
        let digits = if more { NINE_DIGITS / 10 } else { digits };
        let index = exponent + i32::from(more) - LEAST_EXPONENT + precision as i32;
        let first = digits / 100_000_000;
        Self { rest: digits - first * 100_000_000, first: b'0' + first as u8, place: index as u8, negative }
    }

    /// Writes the number and returns its length; `None` for one that is unusual. `rest` is that
    /// field as `digits::eight` gives it.
    #[inline(always)]
    pub(super) fn write(self, rest: u64, out: &mut [u8; ROOM]) -> Option<usize> {
        let place = PLACES.get(usize::from(self.place))?;
        let text = rest | ZEROS;
        let count = 9 - (rest.leading_zeros() / 8) as u8;
        out[0] = b'-';
        let at = usize::from(self.negative);
        let number = out.get_mut(at..at + 24)?;
        // The masks change nothing: they show that all of it fits.
        let to = |offset: u8| usize::from(offset & 15);
        put(number, 0, ZEROS);
        number[to(place.first)] = self.first;
        put(number, to(place.first) + 1, text);
        // Twice, since a shift by 64 is none. Behind nine digits comes a zero.
        put(number, to(place.rest), text >> (place.half & 63) >> (place.half & 63) | ZEROS);
        number[to(place.point)] = b'.';
        let lone = place.lone & u8::from(count == 1);
        let length = usize::from((count + place.around - lone).max(place.least) & 15);
        // Without an exponent, what is written behind the number is not looked at.
        number[length..length + 4].copy_from_slice(&place.tail);
        Some(at + length + usize::from(place.tail_length))
    }
}

#[inline(always)]
fn put(out: &mut [u8], at: usize, bytes: u64) {
    out[at..at + 8].copy_from_slice(&bytes.to_le_bytes());
}
