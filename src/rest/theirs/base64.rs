//! Base64: the object `{"b64": "…"}`, and the text in it as `absl::Base64Unescape` reads it.
use super::refusal::Refusal;
use crate::rest::json::{Event, Text, Walk};

/// The text of `{"b64": "…"}`, if that is the next value: an object with this one member, a string
/// (`IsValBase64Object` in `json_tensor.cc`).
pub(super) fn object(mut walk: Walk<'_>) -> Option<Text<'_>> {
    let (Event::StartObject, Event::Key(key), Event::String(text), Event::EndObject) =
        (walk.step(), walk.step(), walk.step(), walk.step())
    else {
        return None;
    };
    key.is(b"b64").then_some(text)
}

/// The decoded bytes.
///
/// # Errors
/// If the text is not base64.
pub(super) fn decoded(text: Text<'_>) -> Result<Vec<u8>, Refusal> {
    let text = text.unescaped();
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    if decode(&text, |byte| bytes.push(byte)) {
        return Ok(bytes);
    }
    Err(Refusal::invalid("Unable to base64 decode"))
}

/// Checks that a text is base64.
pub(super) fn check(text: Text<'_>) -> Result<(), Refusal> {
    if decode(&text.unescaped(), |_| {}) {
        return Ok(());
    }
    Err(Refusal::invalid("Unable to base64 decode"))
}

/// Decodes standard base64. White space is skipped anywhere, the padding may be missing, `.` pads
/// as `=` does, and left-over bits are dropped.
///
/// Returns false if the text is not base64, and calls `byte` with each decoded byte.
fn decode(text: &[u8], mut byte: impl FnMut(u8)) -> bool {
    // The bits that are not written yet, and how many letters they come from.
    let (mut bits, mut letters) = (0_u32, 0_u32);
    let mut pads = 0_usize;
    for letter in text {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' | b'.' => {
                pads += 1;
                continue;
            }
            b' ' | b'\t'..=b'\r' => continue,
            _ => return false,
        };
        if pads > 0 {
            return false;
        }
        bits = bits << 6 | u32::from(value);
        letters += 1;
        if letters == 4 {
            byte((bits >> 16) as u8);
            byte((bits >> 8) as u8);
            byte(bits as u8);
            (bits, letters) = (0, 0);
        }
    }
    match letters {
        0 => pads == 0,
        2 => {
            byte((bits >> 4) as u8);
            pads == 0 || pads == 2
        }
        3 => {
            byte((bits >> 10) as u8);
            byte((bits >> 2) as u8);
            pads == 0 || pads == 1
        }
        _ => false,
    }
}
