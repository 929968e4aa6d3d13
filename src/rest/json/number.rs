//! Numbers as RapidJSON reads them: integers up to 64 bits, everything else as a double that is up
//! to 3 ULP off (`StrtodNormalPrecision`).
use std::sync::LazyLock;

use super::lex::Lexer;
use super::syntax::{SyntaxError, SyntaxErrorKind};

/// The value of a number. Integers have the smallest kind of these that holds them; `-0` is one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// Not negative.
    Unsigned(u64),
    /// Below zero.
    Negative(i64),
    /// Has a fraction or an exponent, is NaN or an infinity, or an integer of more than 64 bits.
    Double(f64),
}

impl Number {
    /// The integer, if it is one of int64.
    pub fn to_i64(self) -> Option<i64> {
        match self {
            Self::Unsigned(value) => i64::try_from(value).ok(),
            Self::Negative(value) => Some(value),
            Self::Double(_) => None,
        }
    }
}

/// The greatest integer to which another digit of a fraction is added: 2^53 - 1.
const MAX_EXACT: u64 = (1 << 53) - 1;
/// Digits that are added to a double.
const MAX_DIGITS: u32 = 17;
/// The greatest power of ten that is a double.
const MAX_POWER: i64 = 308;
/// An exponent from which on its further digits do not count.
const HUGE_EXPONENT: i64 = 214_748_364;

static POWERS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    (0..=MAX_POWER).map(|power| format!("1e{power}").parse().unwrap_or(f64::INFINITY)).collect()
});

/// Reads the number that starts at the lexer's position (`ParseNumber` in `reader.h`).
pub(super) fn read(lexer: &mut Lexer<'_>) -> Result<Number, SyntaxError> {
    let start = lexer.at;
    let error = |kind, at| Err(SyntaxError { kind, at });
    let minus = lexer.consume(b'-');
    let mut int = 0_u64;
    // How many digits count already.
    let mut digits = 0_u32;
    let mut double = None;
    let mut special = None;
    match lexer.peek() {
        b'0' => lexer.at += 1,
        b'1'..=b'9' => {
            let max = if minus { i64::MIN.unsigned_abs() } else { u64::MAX };
            int = u64::from(lexer.peek() - b'0');
            lexer.at += 1;
            while let Some(digit) = digit(lexer) {
                let Some(next) = int.checked_mul(10).and_then(|int| int.checked_add(digit)) else {
                    double = Some(int as f64);
                    break;
                };
                if next > max {
                    double = Some(int as f64);
                    break;
                }
                int = next;
                digits += 1;
                lexer.at += 1;
            }
        }
        b'I' | b'N' => special = Some(not_finite(lexer, minus)?),
        _ => return error(SyntaxErrorKind::Value, lexer.at),
    }
    if let Some(double) = &mut double {
        while let Some(digit) = digit(lexer) {
            if *double >= 1.797_693_134_862_315_7e307 {
                return error(SyntaxErrorKind::TooBig, start);
            }
            *double = *double * 10.0 + digit as f64;
            lexer.at += 1;
        }
    }
    let mut power = 0_i64;
    if lexer.consume(b'.') {
        if digit(lexer).is_none() {
            return error(SyntaxErrorKind::Fraction, lexer.at);
        }
        let mut value = double.unwrap_or_else(|| {
            while int <= MAX_EXACT
                && let Some(digit) = digit(lexer)
            {
                int = int * 10 + digit;
                power -= 1;
                digits += u32::from(int != 0);
                lexer.at += 1;
            }
            int as f64
        });
        while let Some(digit) = digit(lexer) {
            if digits < MAX_DIGITS {
                value = value * 10.0 + digit as f64;
                power -= 1;
                digits += u32::from(value > 0.0);
            }
            lexer.at += 1;
        }
        double = Some(value);
    }
    if lexer.consume(b'e') || lexer.consume(b'E') {
        double = double.or(Some(int as f64));
        power += exponent(lexer, start, power)?;
    }
    Ok(match (double, special) {
        (Some(double), _) => {
            let value = scaled(double, power);
            Number::Double(if minus { -value } else { value })
        }
        (None, Some(special)) => Number::Double(special),
        (None, None) if minus && int > 0 => Number::Negative(0_i64.wrapping_sub_unsigned(int)),
        (None, None) => Number::Unsigned(int),
    })
}

/// The next byte's value, if it is a digit.
#[inline]
fn digit(lexer: &Lexer<'_>) -> Option<u64> {
    let digit = lexer.peek().wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

/// `NaN`, `Inf` or `Infinity`. RapidJSON 1.1.0 tries the second word after the letters of the first
/// that it found, so that `NInf` is an infinity.
fn not_finite(lexer: &mut Lexer<'_>, minus: bool) -> Result<f64, SyntaxError> {
    if lexer.consume_all(b"NaN") {
        return Ok(f64::NAN);
    }
    if lexer.consume_all(b"Inf") && (lexer.peek() != b'i' || lexer.consume_all(b"inity")) {
        return Ok(if minus { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    Err(SyntaxError { kind: SyntaxErrorKind::Value, at: lexer.at })
}

/// The exponent after its `e`. `power` is that of the digits before it.
fn exponent(lexer: &mut Lexer<'_>, start: usize, power: i64) -> Result<i64, SyntaxError> {
    let minus = !lexer.consume(b'+') && lexer.consume(b'-');
    let Some(first) = digit(lexer) else {
        return Err(SyntaxError { kind: SyntaxErrorKind::Exponent, at: lexer.at });
    };
    lexer.at += 1;
    let mut exponent = first as i64;
    while let Some(digit) = digit(lexer) {
        if !(minus && exponent >= HUGE_EXPONENT) {
            exponent = exponent * 10 + digit as i64;
        }
        // Only after a second digit: so does RapidJSON.
        if !minus && exponent > MAX_POWER - power {
            return Err(SyntaxError { kind: SyntaxErrorKind::TooBig, at: start });
        }
        lexer.at += 1;
    }
    Ok(if minus { -exponent } else { exponent })
}

/// `value` times a power of ten, with RapidJSON's rounding (`strtod.h`).
fn scaled(value: f64, power: i64) -> f64 {
    if power < -MAX_POWER {
        return step(step(value, -MAX_POWER), power + MAX_POWER);
    }
    step(value, power)
}

/// `FastPath` in `strtod.h`. TF Serving's threads flush subnormal numbers to zero.
fn step(value: f64, power: i64) -> f64 {
    let ten = |power: i64| usize::try_from(power).ok().and_then(|power| POWERS.get(power));
    let scaled = match power {
        ..-308 => return 0.0,
        -308..0 => ten(-power).map_or(0.0, |ten| value / ten),
        0.. => ten(power).map_or(f64::INFINITY, |ten| value * ten),
    };
    if scaled.is_subnormal() { 0.0 } else { scaled }
}
