//! The grammar: the first syntax error of a body, as RapidJSON's iterative parser reports it.
use std::fmt;
use std::ops::Range;

use super::lex::Lexer;

/// A syntax error and its byte offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyntaxError {
    pub kind: SyntaxErrorKind,
    pub at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SyntaxErrorKind {
    Empty,
    Value,
    MemberName,
    Colon,
    CommaOrBrace,
    CommaOrBracket,
    Hex,
    Surrogate,
    Escape,
    Quote,
    TooBig,
    Fraction,
    Exponent,
}

impl SyntaxErrorKind {
    /// RapidJSON's text (`error/en.h`).
    pub const fn text(self) -> &'static str {
        match self {
            Self::Empty => "The document is empty.",
            Self::Value => "Invalid value.",
            Self::MemberName => "Missing a name for object member.",
            Self::Colon => "Missing a colon after a name of object member.",
            Self::CommaOrBrace => "Missing a comma or '}' after an object member.",
            Self::CommaOrBracket => "Missing a comma or ']' after an array element.",
            Self::Hex => "Incorrect hex digit after \\u escape in string.",
            Self::Surrogate => "The surrogate pair in string is invalid.",
            Self::Escape => "Invalid escape character in string.",
            Self::Quote => "Missing a closing quotation mark in string.",
            Self::TooBig => "Number too big to be stored in double.",
            Self::Fraction => "Miss fraction part in number.",
            Self::Exponent => "Miss exponent in number.",
        }
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset: {}", self.kind.text(), self.at)
    }
}

impl std::error::Error for SyntaxError {}

/// What was read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    ObjectStart,
    MemberName,
    Colon,
    MemberValue,
    MemberComma,
    ArrayStart,
    Element,
    ElementComma,
}

impl State {
    /// The error if something else follows than what can.
    fn error(self, at: usize) -> SyntaxError {
        let kind = match self {
            Self::Start => SyntaxErrorKind::Empty,
            Self::ObjectStart | Self::MemberComma => SyntaxErrorKind::MemberName,
            Self::MemberName => SyntaxErrorKind::Colon,
            Self::MemberValue => SyntaxErrorKind::CommaOrBrace,
            Self::Element => SyntaxErrorKind::CommaOrBracket,
            Self::Colon | Self::ArrayStart | Self::ElementComma => SyntaxErrorKind::Value,
        };
        SyntaxError { kind, at }
    }
}

/// Finds where the first value of a body is. What follows it does not matter
/// (`kParseStopWhenDoneFlag` in `json_tensor.cc`).
///
/// # Errors
/// The first syntax error.
pub fn check(body: &[u8]) -> Result<Range<usize>, SyntaxError> {
    use State::{
        ArrayStart, Colon, Element, ElementComma, MemberComma, MemberName, MemberValue, ObjectStart, Start,
    };
    let mut lexer = Lexer::after_mark(body);
    lexer.skip_space();
    let start = lexer.at;
    let mut open = Brackets::default();
    let mut state = Start;
    loop {
        lexer.skip_space();
        let byte = lexer.peek();
        let wants_value = matches!(state, Start | Colon | ArrayStart | ElementComma);
        let next = match byte {
            b'[' | b'{' if wants_value => {
                open.push(byte == b'{');
                Some(if byte == b'{' { ObjectStart } else { ArrayStart })
            }
            b']' if matches!(state, ArrayStart | Element) => {
                open.pop();
                None
            }
            b'}' if matches!(state, ObjectStart | MemberValue) => {
                open.pop();
                None
            }
            b':' if state == MemberName => Some(Colon),
            b',' if state == MemberValue => Some(MemberComma),
            b',' if state == Element => Some(ElementComma),
            b'"' if matches!(state, ObjectStart | MemberComma) => {
                lexer.string()?;
                state = MemberName;
                continue;
            }
            0 | b'[' | b']' | b'{' | b'}' | b',' | b':' => return Err(state.error(lexer.at)),
            _ if wants_value => {
                lexer.scalar()?;
                state = match open.in_object() {
                    None => return Ok(start..lexer.at),
                    Some(true) => MemberValue,
                    Some(false) => Element,
                };
                continue;
            }
            _ => return Err(state.error(lexer.at)),
        };
        lexer.at += 1;
        state = match (next, open.in_object()) {
            (Some(next), _) => next,
            (None, None) => return Ok(start..lexer.at),
            (None, Some(true)) => MemberValue,
            (None, Some(false)) => Element,
        };
    }
}

/// The open brackets, one bit each.
#[derive(Debug, Default)]
struct Brackets {
    /// Full words below the last one.
    full: Vec<u64>,
    last: u64,
    /// Bits in `last`.
    bits: u32,
}

impl Brackets {
    fn push(&mut self, object: bool) {
        if self.bits == u64::BITS {
            self.full.push(self.last);
            self.bits = 0;
        }
        self.last = self.last << 1 | u64::from(object);
        self.bits += 1;
    }

    fn pop(&mut self) {
        self.last >>= 1;
        self.bits = self.bits.saturating_sub(1);
        if self.bits == 0
            && let Some(full) = self.full.pop()
        {
            self.last = full;
            self.bits = u64::BITS;
        }
    }

    /// Whether the innermost one is an object; `None` if none is open.
    fn in_object(&self) -> Option<bool> {
        (self.bits > 0).then_some(self.last & 1 == 1)
    }
}
