//! JSON strings as RapidJSON's writer escapes them, and bytes as base64.
use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Refusal;
use super::out::Out;

/// Whether a byte is escaped: quotes, backslashes and control characters (`rapidjson/writer.h`).
const ESCAPED: [bool; 256] = {
    let mut escaped = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        escaped[byte] = true;
        byte += 1;
    }
    escaped[b'"' as usize] = true;
    escaped[b'\\' as usize] = true;
    escaped
};

/// The bytes of [`STANDARD`] base64 that are encoded at once: a multiple of three.
const BLOCK: usize = 3 * 1024;

/// Writes a string with its quotes.
pub(super) fn string(out: &mut Out, text: &str) -> Result<(), Refusal> {
    out.put(b"\"")?;
    escaped(text, |part| out.put(part))?;
    out.put(b"\"")
}

/// [`string`] to a text without a limit.
pub(super) fn append(to: &mut Vec<u8>, text: &str) {
    to.push(b'"');
    let Ok(()) = escaped(text, |part| {
        to.extend_from_slice(part);
        Ok::<(), Infallible>(())
    });
    to.push(b'"');
}

/// Passes the parts of an escaped text to `put`.
fn escaped<E>(text: &str, mut put: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| ESCAPED[usize::from(*byte)]) {
        put(&rest[..at])?;
        let hex = |digit: u8| b"0123456789ABCDEF"[usize::from(digit)];
        match rest[at] {
            byte @ (b'"' | b'\\') => put(&[b'\\', byte])?,
            0x08 => put(b"\\b")?,
            0x0c => put(b"\\f")?,
            b'\n' => put(b"\\n")?,
            b'\r' => put(b"\\r")?,
            b'\t' => put(b"\\t")?,
            byte => put(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)])?,
        }
        rest = &rest[at + 1..];
    }
    put(rest)
}

/// Writes bytes as a string with its quotes, and whether they are UTF-8. Each invalid sequence
/// becomes U+FFFD, as JSON parsers that accept TF Serving's raw bytes read it.
pub(super) fn bytes(out: &mut Out, bytes: &[u8]) -> Result<bool, Refusal> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return string(out, text).map(|()| true);
    }
    out.put(b"\"")?;
    for chunk in bytes.utf8_chunks() {
        escaped(chunk.valid(), |part| out.put(part))?;
        if !chunk.invalid().is_empty() {
            out.put("\u{fffd}".as_bytes())?;
        }
    }
    out.put(b"\"")?;
    Ok(false)
}

/// Writes `{"b64": …}` over three lines, the first of which has begun.
pub(super) fn base64(out: &mut Out, bytes: &[u8], level: usize) -> Result<(), Refusal> {
    out.put(b"{")?;
    out.line(level + 1)?;
    out.put(b"\"b64\": \"")?;
    for block in bytes.chunks(BLOCK) {
        let room = out.room(BLOCK / 3 * 4)?;
        // The room is large enough for any block.
        let length = STANDARD.encode_slice(block, room).unwrap_or_default();
        out.advance(length);
    }
    out.put(b"\"")?;
    out.line(level)?;
    out.put(b"}")
}
