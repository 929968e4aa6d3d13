//! The text of a fault as gRPC carries it: one line, cut to fit, percent-encoded.
use http::HeaderValue;
use tonic::Code;

use crate::repair::Problem;
use crate::repair::report::refusal;

/// The text that a person reads; what does not fit is counted.
pub(super) const MESSAGE_LIMIT: usize = 1536;
const NAME_LIMIT: usize = 128;

/// `grpc-status` as header value, without an allocation.
pub fn code_value(code: Code) -> HeaderValue {
    HeaderValue::from_static(match code as i32 {
        0 => "0",
        1 => "1",
        2 => "2",
        3 => "3",
        4 => "4",
        5 => "5",
        6 => "6",
        7 => "7",
        8 => "8",
        9 => "9",
        10 => "10",
        11 => "11",
        12 => "12",
        13 => "13",
        14 => "14",
        15 => "15",
        _ => "16",
    })
}

/// `grpc-message` may hold printable ASCII; everything else, and `%`, goes as `%XX`.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

/// Undoes `percent_encode`; what is no escape stays as it is.
pub fn percent_decode(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let escape = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| byte == b'%') {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[2..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The message with as many problems as fit, and a count of the others.
pub(super) fn fit_problems(model: &str, signature: &str, problems: &[Problem]) -> String {
    let (model, signature) = (cut(model, NAME_LIMIT), cut(signature, NAME_LIMIT));
    let mut shown = problems.len().min(64);
    loop {
        let mut text = refusal(&model, &signature, &problems[..shown]);
        if shown < problems.len() {
            text = format!("{text} (+{} more problems)", problems.len() - shown);
        }
        if text.len() <= MESSAGE_LIMIT || shown <= 1 {
            return text;
        }
        shown = if shown > 8 { shown / 2 } else { shown - 1 };
    }
}

/// At most `limit` bytes; what was cut is shown as `...`.
pub(super) fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit.saturating_sub(3);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_message_survives_percent_encoding() {
        for text in ["plain", "100 % of\nlines\tand \u{e9}", "%zz", ""] {
            assert_eq!(percent_decode(percent_encode(text).as_bytes()), text);
        }
        assert_eq!(percent_encode("a\n%"), "a%0A%25");
        assert_eq!(percent_decode(b"%zz%4"), "%zz%4");
    }

    #[test]
    fn what_is_cut_stays_text() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abc...");
        assert_eq!(cut("ab\u{20ac}defg", 7), "ab...");
    }
}
