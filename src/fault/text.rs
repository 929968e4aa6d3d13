//! The text of a fault in the form that gRPC sends it: one line, cut to fit, percent-encoded.
use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tonic::Code;

use crate::repair::Problem;
use crate::repair::report::{Reader, refusal};

/// Bytes of the message. Problems that do not fit are counted instead.
pub(super) const MESSAGE_LIMIT: usize = 1536;
const NAME_LIMIT: usize = 128;

/// The value of `grpc-status`, without an allocation.
pub(super) fn code_value(code: Code) -> HeaderValue {
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

/// What must be escaped in `grpc-message`: everything except printable ASCII, and `%`.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// A text for `grpc-message`.
pub(crate) fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// The text of a `grpc-message`. Invalid escapes stay as they are.
pub(crate) fn percent_decode(text: &[u8]) -> String {
    percent_encoding::percent_decode(text).decode_utf8_lossy().into_owned()
}

/// The message, with as many problems as fit and a count of the rest.
pub(super) fn fit_problems(model: &str, signature: &str, problems: &[Problem], reader: Reader) -> String {
    let (model, signature) = (cut(model, NAME_LIMIT), cut(signature, NAME_LIMIT));
    let mut shown = problems.len().min(64);
    loop {
        let mut text = refusal(&model, &signature, &problems[..shown], reader);
        if shown < problems.len() {
            text = format!("{text} (+{} more problems)", problems.len() - shown);
        }
        if text.len() <= MESSAGE_LIMIT || shown <= 1 {
            return text;
        }
        shown = if shown > 8 { shown / 2 } else { shown - 1 };
    }
}

/// At most `limit` bytes of the text, with `...` in place of what was cut.
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
        assert_eq!(percent_encode(" ~\u{7f}\u{e9}"), " ~%7F%C3%A9");
        assert_eq!(percent_decode(b"%zz%4%+1"), "%zz%4%+1");
        assert_eq!(percent_decode(b"%C3%A9 %c3 %%41 \xff"), "\u{e9} \u{fffd} %A \u{fffd}");
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abc...");
        assert_eq!(cut("ab\u{20ac}defg", 7), "ab...");
    }
}
