//! Strings: where they end, and what their escapes stand for.
use std::borrow::Cow;

use super::syntax::{SyntaxError, SyntaxErrorKind};

/// The bytes between the quotes of a string without errors. They need not be UTF-8: RapidJSON does
/// not check it unless told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    pub(super) fn new(inside: &'a [u8]) -> Self {
        Self(inside)
    }

    /// As written, with escapes.
    pub fn raw(self) -> &'a [u8] {
        self.0
    }

    /// Whether the string is this one, without allocating.
    pub fn is(self, other: &[u8]) -> bool {
        if !self.0.contains(&b'\\') {
            return self.0 == other;
        }
        // No escape is shorter than what it stands for.
        self.0.len() >= other.len() && self.unescaped() == other
    }

    /// The string up to its first NUL byte, which is where TF Serving's C strings end.
    pub fn c_string(self) -> Cow<'a, [u8]> {
        let text = self.unescaped();
        match (text.iter().position(|byte| *byte == 0), text) {
            (None, text) => text,
            (Some(end), Cow::Borrowed(text)) => Cow::Borrowed(text.get(..end).unwrap_or_default()),
            (Some(end), Cow::Owned(mut text)) => {
                text.truncate(end);
                Cow::Owned(text)
            }
        }
    }

    /// The string that is meant. A lone low surrogate becomes three bytes that are not UTF-8.
    pub fn unescaped(self) -> Cow<'a, [u8]> {
        let Some(first) = self.0.iter().position(|byte| *byte == b'\\') else {
            return Cow::Borrowed(self.0);
        };
        let (plain, mut rest) = self.0.split_at(first);
        let mut out = Vec::with_capacity(self.0.len());
        out.extend_from_slice(plain);
        while let [first, tail @ ..] = rest {
            if *first != b'\\' {
                let end = rest.iter().position(|byte| *byte == b'\\').unwrap_or(rest.len());
                let (plain, after) = rest.split_at(end);
                out.extend_from_slice(plain);
                rest = after;
                continue;
            }
            rest = match tail {
                [b'u', hex @ ..] => unicode(hex, &mut out),
                [letter, after @ ..] => {
                    out.push(escaped(*letter).unwrap_or(*letter));
                    after
                }
                [] => tail,
            };
        }
        Cow::Owned(out)
    }
}

/// Writes the character of a `\u` escape, of which `hex` is what follows, and returns the rest.
fn unicode<'a>(hex: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let (mut code, mut rest) = (hex4(hex).unwrap_or(0), hex.get(4..).unwrap_or_default());
    if (0xd800..0xdc00).contains(&code)
        && let [b'\\', b'u', low @ ..] = rest
    {
        code = ((code - 0xd800) << 10 | hex4(low).unwrap_or(0xdc00).wrapping_sub(0xdc00) & 0x3ff) + 0x1_0000;
        rest = low.get(4..).unwrap_or_default();
    }
    let byte = |shift: u32, mark: u32, mask: u32| (mark | code >> shift & mask) as u8;
    match code {
        0..0x80 => out.push(code as u8),
        0x80..0x800 => out.extend([byte(6, 0xc0, 0x1f), byte(0, 0x80, 0x3f)]),
        0x800..0x1_0000 => out.extend([byte(12, 0xe0, 0xf), byte(6, 0x80, 0x3f), byte(0, 0x80, 0x3f)]),
        _ => {
            out.extend([byte(18, 0xf0, 0x7), byte(12, 0x80, 0x3f), byte(6, 0x80, 0x3f), byte(0, 0x80, 0x3f)]);
        }
    }
    rest
}

/// The position of the quote that ends a string which starts at `start`.
pub(super) fn end(body: &[u8], start: usize) -> Result<usize, SyntaxError> {
    let mut at = start;
    loop {
        let rest = body.get(at..).unwrap_or_default();
        at += rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len());
        match body.get(at) {
            Some(b'"') => return Ok(at),
            Some(b'\\') => at = escape(body, at)?,
            // `kParseErrorStringMissQuotationMark` for a NUL byte or the end.
            None | Some(0) => return Err(SyntaxError { kind: SyntaxErrorKind::Quote, at }),
            Some(_) => return Err(SyntaxError { kind: SyntaxErrorKind::Escape, at }),
        }
    }
}

/// The position after an escape.
fn escape(body: &[u8], at: usize) -> Result<usize, SyntaxError> {
    let error = |kind| Err(SyntaxError { kind, at });
    let digits = |from: usize| body.get(from..).and_then(hex4);
    match body.get(at + 1) {
        Some(b'u') => {
            let Some(code) = digits(at + 2) else { return error(SyntaxErrorKind::Hex) };
            if !(0xd800..0xdc00).contains(&code) {
                return Ok(at + 6);
            }
            if body.get(at + 6..at + 8) != Some(b"\\u") {
                return error(SyntaxErrorKind::Surrogate);
            }
            match digits(at + 8) {
                None => error(SyntaxErrorKind::Hex),
                Some(0xdc00..0xe000) => Ok(at + 12),
                Some(_) => error(SyntaxErrorKind::Surrogate),
            }
        }
        Some(letter) if escaped(*letter).is_some() => Ok(at + 2),
        _ => error(SyntaxErrorKind::Escape),
    }
}

/// The byte that a letter after a backslash stands for.
fn escaped(letter: u8) -> Option<u8> {
    Some(match letter {
        b'"' | b'\\' | b'/' => letter,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    })
}

/// The value of the first four hexadecimal digits.
fn hex4(digits: &[u8]) -> Option<u32> {
    let digits = digits.get(..4)?;
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}
