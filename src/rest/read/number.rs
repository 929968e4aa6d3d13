//! Numbers in a body: the syntax that RapidJSON accepts, and their values without rounding twice.
use std::cmp::Ordering;

use super::cursor::{Cursor, Syntax, byte};
use super::finding::Kind;

/// RapidJSON refuses such a number while it parses (`kParseErrorNumberTooBig`, reader.h).
pub(super) const TOO_BIG: &str = "number too big for a double";

/// Every number of so many digits fits in a u64.
const DIGITS: usize = 19;
/// RapidJSON's limit of an exponent, less the digits of the fraction (`maxExp`, reader.h).
const MAX_EXPONENT: i64 = 308;
/// Exponents are saturated here: far beyond every dtype, and far from overflow.
const FAR: i64 = 1 << 50;

/// A number in its usual form: it has at most 19 significant digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) negative: bool,
    /// The value is `mantissa` times ten to the power of `exponent`, exactly.
    pub(super) mantissa: u64,
    pub(super) exponent: i32,
    /// Whether it has neither fraction nor exponent.
    pub(super) integer: bool,
    pub(super) end: usize,
}

/// A number of any form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) integer: bool,
    pub(super) special: Option<f64>,
    /// Whether RapidJSON refuses it, wherever in a body it is.
    pub(super) too_big: bool,
}

impl Number {
    /// A number in its usual form, which begins at `start`. RapidJSON refuses none of them.
    pub(super) fn from_plain(plain: &Plain, start: usize) -> Self {
        Self { start, end: plain.end, integer: plain.integer, special: None, too_big: false }
    }
}

/// Reads a number if it has a usual form; the others, wrong ones included, are left to [`token`].
pub(super) fn plain(body: &[u8], at: usize) -> Option<Plain> {
    let negative = byte(body, at) == b'-';
    let start = at + usize::from(negative);
    // Most fractions have one digit before the point.
    let first = byte(body, start).wrapping_sub(b'0');
    let (mut mantissa, mut at) = if first <= 9 && byte(body, start + 1) == b'.' {
        (u64::from(first), start + 1)
    } else {
        take_digits(body, start, 0)
    };
    let mut digits = at - start;
    if digits == 0 || digits > 1 && body[start] == b'0' {
        return None;
    }
    let mut exponent = 0;
    let mut integer = true;
    if byte(body, at) == b'.' {
        at += 1;
        let fraction = at;
        (mantissa, at) = take_digits(body, at, mantissa);
        if at == fraction {
            return None;
        }
        digits += at - fraction;
        exponent = -((at - fraction) as i32);
        integer = false;
    }
    if digits > DIGITS {
        // Zeros in front do not count: 0.001234567890123456789.
        let zeros = body[start..at].iter().take_while(|digit| matches!(digit, b'0' | b'.')).count();
        if body[start] != b'0' || digits + 1 - zeros > DIGITS {
            return None;
        }
    }
    if byte(body, at) | 0x20 == b'e' {
        let (power, end) = small_exponent(body, at + 1)?;
        exponent += power;
        integer = false;
        at = end;
    }
    Some(Plain { negative, mantissa, exponent, integer, end: at })
}

/// An exponent of at most three digits that RapidJSON never refuses.
#[inline]
fn small_exponent(body: &[u8], mut at: usize) -> Option<(i32, usize)> {
    let negative = byte(body, at) == b'-';
    at += usize::from(negative || byte(body, at) == b'+');
    let start = at;
    let mut power = 0;
    while let digit @ 0..=9 = byte(body, at).wrapping_sub(b'0') {
        if at - start == 3 {
            return None;
        }
        power = power * 10 + i32::from(digit);
        at += 1;
    }
    if at == start || i64::from(power) > MAX_EXPONENT {
        return None;
    }
    Some((if negative { -power } else { power }, at))
}

/// Appends the digits from a position on to a number, modulo 2^64: the number, and where the digits
/// end. Eight at a time; how many the last of them are is no branch, since a processor cannot
/// predict the lengths of numbers in a body.
#[inline(always)]
fn take_digits(body: &[u8], mut at: usize, mut number: u64) -> (u64, usize) {
    const POWERS: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
    while let Some(eight) = body.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()) {
        let digits = u64::from_le_bytes(eight) ^ 0x3030_3030_3030_3030;
        // The sum carries only above a byte that is no digit, and the lowest of those counts.
        let others = (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & 0x8080_8080_8080_8080;
        if others != 0 {
            let count = others.trailing_zeros() as usize / 8;
            let digits = digits << (8 * (7 - count)) << 8;
            let number = number.wrapping_mul(POWERS[count & 7]).wrapping_add(eight_digits(digits));
            return (number, at + count);
        }
        number = number.wrapping_mul(100_000_000).wrapping_add(eight_digits(digits));
        at += 8;
    }
    while let digit @ 0..=9 = byte(body, at).wrapping_sub(b'0') {
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    (number, at)
}

/// The number of eight digits from 0 to 9, the first one in the lowest byte.
#[inline(always)]
pub(super) fn eight_digits(digits: u64) -> u64 {
    // Pairs, then fours, then all eight.
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let mask = 0x0000_00ff_0000_00ff;
    let high = (pairs & mask).wrapping_mul(100 + (1_000_000 << 32));
    let low = (pairs >> 16 & mask).wrapping_mul(1 + (10_000 << 32));
    high.wrapping_add(low) >> 32
}

/// Takes a number of any form, NaN and the infinities included (`ParseNumber`, reader.h).
pub(super) fn token(cursor: &mut Cursor<'_>) -> Result<Number, Syntax> {
    let start = cursor.at;
    let negative = cursor.take(b'-');
    let first = cursor.at;
    match cursor.peek() {
        b'0' => cursor.at += 1,
        b'1'..=b'9' => digits(cursor),
        b'N' => {
            cursor.word("NaN")?;
            return Ok(special(start, cursor.at, f64::NAN));
        }
        b'I' => {
            cursor.word("Inf")?;
            if cursor.peek() == b'i' {
                cursor.word("inity")?;
            }
            let value = if negative { f64::NEG_INFINITY } else { f64::INFINITY };
            return Ok(special(start, cursor.at, value));
        }
        _ => return Err(cursor.fault("expected a value")),
    }
    let whole = cursor.at - first;
    // An integer part beyond the doubles is refused, whatever follows.
    let mut too_big = whole > 308 && parse(&cursor.body[first..cursor.at]).is_infinite();
    let mut integer = true;
    let mut counted = 0;
    if cursor.take(b'.') {
        integer = false;
        let from = cursor.at;
        digits(cursor);
        let fraction = &cursor.body[from..cursor.at];
        if fraction.is_empty() {
            return Err(cursor.fault("expected digits after the decimal point"));
        }
        counted = counted_digits(cursor.body[first] == b'0', whole, fraction);
    }
    if matches!(cursor.peek(), b'e' | b'E') {
        integer = false;
        cursor.at += 1;
        let minus = cursor.peek() == b'-';
        cursor.at += usize::from(minus || cursor.peek() == b'+');
        let from = cursor.at;
        digits(cursor);
        if from == cursor.at {
            return Err(cursor.fault("expected digits in the exponent"));
        }
        too_big |= !minus && exponent(&cursor.body[from..cursor.at]) > MAX_EXPONENT + counted;
    }
    Ok(Number { start, end: cursor.at, integer, special: None, too_big })
}

fn special(start: usize, end: usize, value: f64) -> Number {
    Number { start, end, integer: false, special: Some(value), too_big: false }
}

fn digits(cursor: &mut Cursor<'_>) {
    while cursor.peek().is_ascii_digit() {
        cursor.at += 1;
    }
}

/// How many digits of the fraction RapidJSON takes into account: 17 that are significant, not
/// counting the first digit of the number (`significandDigit`, reader.h).
fn counted_digits(zero: bool, whole: usize, fraction: &[u8]) -> i64 {
    let limit = if zero {
        17 + fraction.iter().take_while(|digit| **digit == b'0').count()
    } else {
        18_usize.saturating_sub(whole)
    };
    fraction.len().min(limit) as i64
}

fn exponent(digits: &[u8]) -> i64 {
    digits.iter().fold(0, |power: i64, digit| (power * 10 + i64::from(digit - b'0')).min(FAR))
}

/// A number as a double, correctly rounded; NaN if the text is none. `text` is a number as
/// [`token`] takes it, without NaN and infinities.
pub(super) fn parse(text: &[u8]) -> f64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

/// An exact decimal: its digits without the zeros around them, and where the point is.
#[derive(Debug, Clone)]
pub(super) struct Decimal<'a> {
    pub(super) negative: bool,
    /// Digits and perhaps a point, from the first digit that is not 0 to the last.
    text: &'a [u8],
    /// How many of them are digits.
    count: i64,
    /// The value is 0.DIGITS times ten to this power.
    point: i64,
}

impl<'a> Decimal<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        let negative = text.first() == Some(&b'-');
        let text = &text[usize::from(negative)..];
        let cut = text.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(text.len());
        let (text, power) = text.split_at(cut);
        let power = power.get(1..).unwrap_or_default();
        let minus = power.first() == Some(&b'-');
        let power = exponent(&power[usize::from(minus || power.first() == Some(&b'+'))..]);
        let whole = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
        let is_significant = |byte: &u8| matches!(byte, b'1'..=b'9');
        let first = text.iter().position(is_significant).unwrap_or(text.len());
        let end = text.iter().rposition(is_significant).map_or(first, |last| last + 1);
        let point = if first < whole { (whole - first) as i64 } else { whole as i64 + 1 - first as i64 };
        let count = (end - first - usize::from(first < whole && whole < end)) as i64;
        Self { negative, text: &text[first..end], count, point: point + if minus { -power } else { power } }
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.text.iter().filter(|byte| **byte != b'.').map(|byte| byte - b'0')
    }

    /// The magnitude as an integer.
    ///
    /// # Errors
    /// `Inexact` if it is none, `OutOfRange` if it is beyond u64.
    pub(super) fn integral(&self) -> Result<u64, Kind> {
        if self.count == 0 {
            return Ok(0);
        }
        if self.point < self.count {
            return Err(Kind::Inexact);
        }
        if self.point > 20 {
            return Err(Kind::OutOfRange);
        }
        let digits = self.digits().chain(std::iter::repeat(0)).take(self.point as usize);
        let value = digits.fold(0_u128, |value, digit| value * 10 + u128::from(digit));
        u64::try_from(value).map_err(|_| Kind::OutOfRange)
    }

    /// How the magnitude compares with that of a double of at most `digits` significant decimal
    /// digits.
    pub(super) fn compare(&self, other: f64, digits: usize) -> Ordering {
        let other = format!("{:.digits$e}", other.abs());
        let other = Decimal::new(other.as_bytes());
        match (self.count, other.count) {
            (0, 0) => Ordering::Equal,
            (0, _) => Ordering::Less,
            (_, 0) => Ordering::Greater,
            _ => self.point.cmp(&other.point).then_with(|| self.digits().cmp(other.digits())),
        }
    }
}
