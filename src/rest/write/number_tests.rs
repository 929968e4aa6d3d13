//! Numbers against the standard library, whose `{:.N$e}` and `parse` are correctly rounded.
use super::digits::ROOM;
use super::float::Small;
use super::{double, float};
use crate::rest::random::Random;

/// `%.{precision}g` of the digits and the exponent that `{:.N$e}` prints, with TF Serving's `.0`.
fn laid_out(scientific: &str, precision: i32) -> String {
    let (mantissa, exponent) = scientific.split_once('e').unwrap();
    let exponent: i32 = exponent.parse().unwrap();
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.split('.').collect();
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        digits => digits,
    };
    if exponent < -4 || exponent >= precision {
        let point = if digits.len() > 1 { "." } else { "" };
        let minus = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{}{point}{}e{minus}{:02}", &digits[..1], &digits[1..], exponent.abs());
    }
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1));
    }
    let whole = exponent as usize + 1;
    let padded = format!("{digits:0<whole$}");
    let fraction = if padded.len() > whole { &padded[whole..] } else { "0" };
    format!("{sign}{}.{fraction}", &padded[..whole])
}

fn special(value: f64) -> Option<&'static str> {
    match value {
        _ if value.is_nan() => Some("NaN"),
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        _ => None,
    }
}

fn expected_float(value: f32) -> String {
    if let Some(text) = special(f64::from(value)) {
        return text.to_owned();
    }
    let six = format!("{value:.5e}");
    if six.parse() == Ok(value) { laid_out(&six, 6) } else { laid_out(&format!("{value:.8e}"), 9) }
}

fn expected_double(value: f64) -> String {
    if let Some(text) = special(value) {
        return text.to_owned();
    }
    let six = format!("{value:.5e}");
    if six.parse() == Ok(value) { laid_out(&six, 6) } else { laid_out(&format!("{value:.16e}"), 17) }
}

fn written(write: impl FnOnce(&mut [u8; ROOM]) -> usize) -> String {
    let mut out = [b'#'; ROOM];
    let length = write(&mut out);
    String::from_utf8(out[..length].to_vec()).unwrap()
}

fn check_float(value: f32) {
    assert_eq!(written(|out| float::write(value, out)), expected_float(value), "{:#x}", value.to_bits());
}

fn check_double(value: f64) {
    assert_eq!(written(|out| double::write(value, out)), expected_double(value), "{:#x}", value.to_bits());
}

/// So many random numbers of each kind.
const ROUNDS: u64 = 200_000;

#[test]
fn random_floats_are_printed_as_the_standard_library_prints_them() {
    let mut random = Random::new(1);
    for _ in 0..ROUNDS {
        let bits = random.next();
        check_float(f32::from_bits(bits as u32));
        check_float((bits >> 40) as f32 / 1_677_721.6);
        check_float((bits % 20_000_000) as f32 / 8192.0);
        check_float((bits % 1_000_000) as f32 * 10_f32.powi((bits >> 32) as i32 % 50 - 40));
        check_float((bits % 1_000_000_000_000) as f32);
    }
}

#[test]
fn random_doubles_are_printed_as_the_standard_library_prints_them() {
    let mut random = Random::new(2);
    for _ in 0..ROUNDS {
        let bits = random.next();
        check_double(f64::from_bits(bits));
        check_double((bits >> 11) as f64 / 4096.0);
        check_double((bits >> 11) as f64 / (1_u64 << 53) as f64);
        check_double((bits % 1_000_000) as f64 * 10_f64.powi((bits >> 32) as i32 % 600 - 300));
        check_double((bits % 1_000_000_000) as f64 / 1000.0);
        check_double(f64::from(f32::from_bits(bits as u32)));
    }
}

#[test]
fn each_power_and_its_neighbours_are_printed_exactly() {
    for exponent in -149..=127 {
        let bits = ((exponent + 127).max(0) as u32) << 23
            | u32::from(exponent < -126) << (exponent + 149).clamp(0, 22);
        for bits in [bits - u32::from(bits > 0), bits, bits + 1] {
            check_float(f32::from_bits(bits));
            check_float(-f32::from_bits(bits));
        }
    }
    for power in -45..=38 {
        for digits in [1, 5, 99, 999_999, 9_999_995, 99_999_995, 1_000_005] {
            let value: f32 = format!("{digits}e{power}").parse().unwrap();
            for bits in [value.to_bits() - u32::from(value > 0.0), value.to_bits(), value.to_bits() + 1] {
                check_float(f32::from_bits(bits));
            }
        }
    }
    for power in -324..=308 {
        for digits in [1, 5, 99, 999_999, 9_999_995, 99_999_999_999_999_995_u64] {
            let value: f64 = format!("{digits}e{power}").parse().unwrap();
            for bits in [value.to_bits() - u64::from(value > 0.0), value.to_bits(), value.to_bits() + 1] {
                check_double(f64::from_bits(bits));
            }
        }
    }
    for exponent in 0..=2046_u64 {
        for bits in [exponent << 52, (exponent << 52) + 1, ((exponent + 1) << 52) - 1] {
            check_double(f64::from_bits(bits));
        }
    }
    for exponent in 0..52 {
        check_double(f64::from_bits(1 << exponent));
    }
}

/// Every value of a 16-bit type comes back from its text, and not from a text with one digit less.
fn check_small(small: Small, value: impl Fn(u16) -> f32, parse: impl Fn(f64) -> u16) {
    for bits in 0..=u16::MAX {
        let value = value(bits);
        let text = written(|out| float::write_small(value, small, out));
        if value.is_nan() {
            assert_eq!(text, "NaN");
            continue;
        }
        if value.is_infinite() {
            continue;
        }
        let back: f64 = text.parse().unwrap();
        assert_eq!(parse(back), bits, "{text}");
        let count = text.split('e').next().unwrap().replace(['.', '-'], "");
        let digits = count.trim_matches('0').len();
        if digits > 1 {
            let fewer: f64 = format!("{value:.*e}", digits - 2).parse().unwrap();
            assert_ne!(parse(fewer), bits, "{text} {fewer}");
        }
    }
}

#[test]
fn half_and_bfloat16_are_printed_with_the_fewest_digits() {
    let half = Small { mantissa: 10, least: -14 };
    check_small(half, |bits| half::f16::from_bits(bits).to_f32(), |back| nearest(back, half, 15));
    let brain = Small { mantissa: 7, least: -126 };
    check_small(brain, |bits| half::bf16::from_bits(bits).to_f32(), |back| nearest(back, brain, 127));
}

/// The pattern of a 16-bit type for a number, rounded to even.
fn nearest(value: f64, small: Small, bias: i32) -> u16 {
    let sign = u16::from(value.is_sign_negative()) << 15;
    let value = value.abs();
    if value == 0.0 {
        return sign;
    }
    let exponent = ((value.to_bits() >> 52) as i32 - 1023).max(small.least);
    let steps = (value / 2_f64.powi(exponent - small.mantissa)).round_ties_even() as i32;
    sign + ((exponent + bias - 1) << small.mantissa) as u16 + steps as u16
}
