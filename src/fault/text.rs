//! The text of a fault as gRPC carries it: one line, cut to fit, percent-encoded.
use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
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

/// Percent-encodes a `grpc-message`: printable ASCII stays as it is, except for `%`.
pub fn percent_encode(text: &str) -> String {
    const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// Decodes a `grpc-message`. Invalid escapes stay as they are.
pub fn percent_decode(text: &[u8]) -> String {
    percent_encoding::percent_decode(text).decode_utf8_lossy().into_owned()
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
        assert_eq!(percent_encode("a\n%\u{7f}\u{e9} ~"), "a%0A%25%7F%C3%A9 ~");
        for invalid in ["%zz%4", "%", "%+1", "% 1", "%%41"] {
            let decoded = if invalid == "%%41" { "%A" } else { invalid };
            assert_eq!(percent_decode(invalid.as_bytes()), decoded);
        }
        assert_eq!(percent_decode(b"%C3%A9 %c3 \xff"), "\u{e9} \u{fffd} \u{fffd}");
    }

    #[test]
    fn what_is_cut_stays_text() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abc...");
        assert_eq!(cut("ab\u{20ac}defg", 7), "ab...");
    }
}
