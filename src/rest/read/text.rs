//! Strings: escapes resolved, and base64 decoded as TF Serving decodes it.
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::cursor::hex;

/// Unpadded: padding is counted by us. Bits beyond the last byte are ignored, as in absl.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Passes the bytes of a string on in pieces. `raw` is the inside of a string whose escapes are
/// valid. A low surrogate without its high one becomes three bytes that are not UTF-8, as in
/// RapidJSON (`UTF8::Encode`, encodings.h).
pub(super) fn unescape(raw: &[u8], sink: &mut dyn FnMut(&[u8])) {
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let (plain, escape) = rest.split_at(at);
        if !plain.is_empty() {
            sink(plain);
        }
        let (byte, taken) = match escape.get(1) {
            Some(b'u') => {
                let (code, taken) = code_point(escape);
                utf8(code, sink);
                rest = escape.get(taken..).unwrap_or_default();
                continue;
            }
            Some(b'b') => (b'\x08', 2),
            Some(b'f') => (b'\x0c', 2),
            Some(b'n') => (b'\n', 2),
            Some(b'r') => (b'\r', 2),
            Some(b't') => (b'\t', 2),
            Some(&same) => (same, 2),
            None => return,
        };
        sink(&[byte]);
        rest = &escape[taken..];
    }
    if !rest.is_empty() {
        sink(rest);
    }
}

/// The code point of `\uXXXX` or of a pair of them, and how many bytes it takes.
fn code_point(escape: &[u8]) -> (u32, usize) {
    let unit = |at: usize| escape.get(at..at + 4).and_then(hex).unwrap_or(0);
    let high = unit(2);
    if (0xd800..0xdc00).contains(&high) {
        // A checked string has a low one behind it.
        return (0x1_0000 + ((high - 0xd800) << 10) + (unit(8).wrapping_sub(0xdc00) & 0x3ff), 12);
    }
    (high, 6)
}

fn utf8(code: u32, sink: &mut dyn FnMut(&[u8])) {
    match char::from_u32(code) {
        Some(letter) => sink(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        None => {
            let part = |shift: u32| 0x80 | (code >> shift & 0x3f) as u8;
            sink(&[0xe0 | (code >> 12) as u8, part(6), part(0)]);
        }
    }
}

/// The length of a string with its escapes resolved.
pub(super) fn length(raw: &[u8], escaped: bool) -> usize {
    if !escaped {
        return raw.len();
    }
    let mut length = 0;
    unescape(raw, &mut |part| length += part.len());
    length
}

/// Appends a string with its escapes resolved.
pub(super) fn append(raw: &[u8], escaped: bool, out: &mut Vec<u8>) {
    if escaped {
        unescape(raw, &mut |part| out.extend_from_slice(part));
    } else {
        out.extend_from_slice(raw);
    }
}

/// The number of bytes that a base64 text encodes; `None` if it is none
/// (`absl::Base64Unescape`, escaping.cc): the standard alphabet, white space anywhere, and no
/// padding or all of it, in which a dot counts as `=`.
pub(super) fn base64_length(raw: &[u8], escaped: bool) -> Option<usize> {
    if let Some(letters) = bare(raw, escaped) {
        let whole =
            letters.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/'));
        if whole {
            return (letters.len() % 4 != 1).then_some(letters.len() * 3 / 4);
        }
    }
    let mut letters = 0_usize;
    let mut pads = 0;
    let mut valid = true;
    unescape(raw, &mut |part| {
        for &byte in part {
            match byte {
                b' ' | b'\t'..=b'\r' => {}
                b'=' | b'.' => pads += 1,
                _ if pads > 0 || sextet(byte).is_none() => valid = false,
                _ => letters += 1,
            }
        }
    });
    let expected = [0, usize::MAX, 2, 1][letters % 4];
    (valid && letters % 4 != 1 && (pads == 0 || pads == expected)).then_some(letters * 3 / 4)
}

/// Appends what a base64 text encodes, whose length [`base64_length`] told.
pub(super) fn append_base64(raw: &[u8], escaped: bool, out: &mut Vec<u8>) {
    let start = out.len();
    if let Some(letters) = bare(raw, escaped) {
        if ENGINE.decode_vec(letters, out).is_ok() {
            return;
        }
        out.truncate(start);
    }
    let mut bits = 0_u32;
    let mut count = 0;
    unescape(raw, &mut |part| {
        for value in part.iter().filter_map(|byte| sextet(*byte)) {
            bits = bits << 6 | value;
            count += 6;
            if count >= 8 {
                count -= 8;
                out.push((bits >> count) as u8);
            }
        }
    });
}

/// The letters without the padding, if it is right and there are no escapes.
fn bare(raw: &[u8], escaped: bool) -> Option<&[u8]> {
    let letters = raw.strip_suffix(b"==").or_else(|| raw.strip_suffix(b"=")).unwrap_or(raw);
    let pads = raw.len() - letters.len();
    (!escaped && (pads == 0 || raw.len().is_multiple_of(4) && letters.len() % 4 != 1)).then_some(letters)
}

fn sextet(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}
