//! The scanner below the grammar: white space, strings, numbers and the three words.
use super::number::{self, Number};
use super::syntax::{SyntaxError, SyntaxErrorKind};
use super::text::{self, Text};

/// A position in a body. As in RapidJSON's `MemoryStream`, the end reads as a NUL byte, and a NUL
/// byte in the body is an end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lexer<'a> {
    pub(super) body: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Lexer<'a> {
    /// A lexer at the first byte after a byte order mark. RapidJSON skips each byte of the mark for
    /// itself, so that a part of it is skipped too (`encodedstream.h`).
    pub(super) fn after_mark(body: &'a [u8]) -> Self {
        let mut lexer = Self { body, at: 0 };
        for byte in [0xef, 0xbb, 0xbf] {
            lexer.consume(byte);
        }
        lexer
    }

    /// The next byte; 0 at the end.
    #[inline]
    pub(super) fn peek(&self) -> u8 {
        self.body.get(self.at).copied().unwrap_or(0)
    }

    #[inline]
    pub(super) fn consume(&mut self, byte: u8) -> bool {
        let found = self.body.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    /// Whether the bytes of a word follow, up to the first that differs.
    pub(super) fn consume_all(&mut self, word: &[u8]) -> bool {
        word.iter().all(|byte| self.consume(*byte))
    }

    pub(super) fn skip_space(&mut self) {
        let rest = self.body.get(self.at..).unwrap_or_default();
        let space = rest.iter().position(|byte| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t'));
        self.at += space.unwrap_or(rest.len());
    }

    /// The string whose opening quote is next.
    pub(super) fn string(&mut self) -> Result<Text<'a>, SyntaxError> {
        let start = self.at + 1;
        self.at = text::end(self.body, start)?;
        let inside = self.body.get(start..self.at).unwrap_or_default();
        self.at += 1;
        Ok(Text::new(inside))
    }

    /// One of the words `null`, `true` and `false`, whose first letter is next.
    pub(super) fn word(&mut self, word: &[u8]) -> Result<(), SyntaxError> {
        if self.consume_all(word) {
            return Ok(());
        }
        Err(SyntaxError { kind: SyntaxErrorKind::Value, at: self.at })
    }

    pub(super) fn number(&mut self) -> Result<Number, SyntaxError> {
        number::read(self)
    }

    /// Reads over a value that is no array or object.
    pub(super) fn scalar(&mut self) -> Result<(), SyntaxError> {
        match self.peek() {
            b'"' => self.string().map(drop),
            b'n' => self.word(b"null"),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            _ => self.number().map(drop),
        }
    }
}
