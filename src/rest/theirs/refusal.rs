//! A refusal: a code and a text.
use std::borrow::Cow;

/// The codes of gRPC that the JSON layer uses, with their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Code {
    InvalidArgument = 3,
    ResourceExhausted = 8,
    Unimplemented = 12,
}

impl Code {
    /// The number in gRPC.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The name in status texts: `INVALID_ARGUMENT`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::Unimplemented => "UNIMPLEMENTED",
        }
    }
}

/// A body is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    /// The text, in bytes: it quotes the body, whose strings need not be UTF-8.
    pub text: Vec<u8>,
}

impl Refusal {
    pub(super) fn invalid(text: impl Into<Vec<u8>>) -> Self {
        Self { code: Code::InvalidArgument, text: text.into() }
    }

    /// `INVALID_ARGUMENT` with this text, where `parts` are joined.
    pub(super) fn joined<const N: usize>(parts: [&[u8]; N]) -> Self {
        Self::invalid(parts.concat())
    }

    /// The text as UTF-8, where bytes that are not become U+FFFD.
    pub fn lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.text)
    }
}
