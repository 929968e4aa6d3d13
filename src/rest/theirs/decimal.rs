//! Doubles as RapidJSON writes them: `100.0`, `1e30`, `9.999999999999999e-51`.
use std::io::Write as _;

use super::grisu;

/// A number with more digits than this before its point is written with an exponent.
const MAX_PLAIN: i32 = 21;
/// A number with more zeros than this after its point is written with an exponent.
const MAX_ZEROS: i32 = 5;

/// Writes a finite double (`Prettify` in `internal/dtoa.h`).
pub(super) fn put(out: &mut Vec<u8>, value: f64) {
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let value = value.abs();
    if value == 0.0 {
        out.extend_from_slice(b"0.0");
        return;
    }
    let (digits, power) = grisu::digits(value);
    let length = digits.len() as i32;
    // Where the point is, counted from the first digit.
    let point = length + power;
    let zeros = |out: &mut Vec<u8>, count: i32| out.extend((0..count).map(|_| b'0'));
    match point {
        1..=MAX_PLAIN if length <= point => {
            out.extend_from_slice(&digits);
            zeros(out, point - length);
            out.extend_from_slice(b".0");
        }
        1..=MAX_PLAIN => {
            let (whole, fraction) = digits.split_at(point as usize);
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
        _ if (-MAX_ZEROS..=0).contains(&point) => {
            out.extend_from_slice(b"0.");
            zeros(out, -point);
            out.extend_from_slice(&digits);
        }
        _ => {
            let (first, rest) = digits.split_at(1);
            out.extend_from_slice(first);
            if !rest.is_empty() {
                out.push(b'.');
                out.extend_from_slice(rest);
            }
            // Writing to a vector does not fail.
            let _ = write!(out, "e{}", point - 1);
        }
    }
}
