//! Numbers of usual lengths, each read from one window of the body.
//!
//! A processor cannot predict how many digits the next number of a body has. So the branches here
//! are on what most numbers of a body have in common, and the position of the next number depends
//! on nothing else of this one: both are converted at the same time.
use super::number::{Plain, eight_digits};

/// The bytes that a number and the separator behind it are read from.
pub(super) const WINDOW: usize = 32;

/// `0` in every byte.
const ZEROS: u64 = 0x3030_3030_3030_3030;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
const POWERS: [u64; 16] = powers();

const fn powers() -> [u64; 16] {
    let mut powers = [1; 16];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
}

/// Reads the number at the beginning of a window: at most seven digits, and perhaps a point and
/// more digits, at most 19 in all. The others, wrong ones included, are left to [`plain`], which
/// gives the same for these.
///
/// [`plain`]: super::number::plain
#[inline(always)]
pub(super) fn number(window: &[u8; WINDOW]) -> Option<Plain> {
    let negative = window[0] == b'-';
    let start = usize::from(negative);
    let first = window[start].wrapping_sub(b'0');
    if first > 9 {
        return None;
    }
    let front = digits(window, 0);
    // Whether the first byte is a digit or a minus, it is not where the digits end.
    let others = others(front) & !0xff;
    let mut end = first_of(others)?;
    let mut mantissa = u64::from(first);
    if end > start + 1 {
        if first == 0 {
            return None;
        }
        mantissa = eight_digits(front >> (8 * start) << (64 - 8 * (end - start)));
    }
    let integer = window[end] != b'.';
    let mut count = 0;
    if !integer {
        let point = end;
        let fraction = digits(window, point + 1);
        if let Some(found) = first_of(others & (others - 1)) {
            // The number ends in the first eight bytes, in the next or in the last.
            end = found;
            count = end - point - 1;
            if count == 0 {
                return None;
            }
            mantissa = mantissa * POWERS[count & 15] + eight_digits(fraction << (64 - 8 * count));
        } else if let Some(found) = first_of(self::others(digits(window, 8))) {
            end = 8 + found;
            count = end - point - 1;
            if count == 0 {
                return None;
            }
            let fraction = up_to_15_digits(fraction, digits(window, point + 9), count);
            mantissa = mantissa * POWERS[count & 15] + fraction;
        } else {
            end = 16 + first_of(self::others(digits(window, 16)))?;
            count = end - point - 1;
            if count <= 8 || end - start > 20 {
                return None;
            }
            let rest = up_to_15_digits(digits(window, point + 9), digits(window, point + 17), count - 8);
            mantissa = mantissa * 100_000_000 + eight_digits(fraction);
            mantissa = mantissa * POWERS[(count - 8) & 15] + rest;
        }
    }
    if window[end] | 0x20 == b'e' {
        return None;
    }
    // The mask changes nothing: it shows that the power of ten is in the table.
    let exponent = -((count & 31) as i32);
    Some(Plain { negative, mantissa, exponent, integer, end })
}

/// Eight bytes of a window, the digits as numbers from 0 to 9.
#[inline(always)]
fn digits(window: &[u8; WINDOW], at: usize) -> u64 {
    let bytes = window.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    u64::from_le_bytes(bytes.unwrap_or_default()) ^ ZEROS
}

/// The high bits of the bytes that are no digits. They may be wrong above the lowest of these.
#[inline(always)]
fn others(digits: u64) -> u64 {
    // Only the sum of a byte that is no digit carries.
    (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & HIGH_BITS
}

/// The index of the lowest byte whose high bit is set.
#[inline(always)]
fn first_of(high_bits: u64) -> Option<usize> {
    (high_bits != 0).then(|| high_bits.trailing_zeros() as usize / 8)
}

/// The number of the first `count` of 16 digits, from 1 to 15 of them.
#[inline(always)]
fn up_to_15_digits(first: u64, second: u64, count: usize) -> u64 {
    let digits = (u128::from(second) << 64 | u128::from(first)) << (128 - 8 * count);
    eight_digits(digits as u64) * 100_000_000 + eight_digits((digits >> 64) as u64)
}
