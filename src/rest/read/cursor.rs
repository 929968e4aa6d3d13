//! A position in a JSON body: white space, strings, and values that are skipped unread.
use std::ops::Range;

use super::number;

/// Nested lists and objects in a value that is skipped. A level takes one bit.
const MAX_SKIPPED_LEVELS: usize = 8 << 20;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = ONES << 7;

/// Where a body stops being JSON as RapidJSON reads it, and what is wrong there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Syntax {
    pub(super) at: usize,
    pub(super) what: &'static str,
}

/// The inside of a string, without its quotes. Its escapes are valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) range: Range<usize>,
    /// Whether there is a backslash in it.
    pub(super) escaped: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    pub(super) body: &'a [u8],
    pub(super) at: usize,
}

/// Which of the open levels are objects, one bit each.
#[derive(Debug, Default)]
struct Nesting {
    bits: Vec<u64>,
    levels: usize,
}

/// The byte at a position, 0 behind the end: RapidJSON's `MemoryStream` cannot tell the two apart
/// either.
#[inline(always)]
pub(super) fn byte(body: &[u8], at: usize) -> u8 {
    body.get(at).copied().unwrap_or(0)
}

/// The first position from `at` on that is not white space.
#[inline(always)]
pub(super) fn past_space(body: &[u8], mut at: usize) -> usize {
    while matches!(byte(body, at), b' ' | b'\n' | b'\r' | b'\t') {
        at += 1;
    }
    at
}

// === impl Cursor ===

impl<'a> Cursor<'a> {
    /// The beginning of a body, behind a byte order mark. As in RapidJSON's `EncodedInputStream`,
    /// some of its bytes may be missing.
    pub(super) fn new(body: &'a [u8]) -> Self {
        let mark = [0xef, 0xbb, 0xbf].into_iter();
        let at = mark.fold(0, |at, part| at + usize::from(byte(body, at) == part));
        Self { body, at }
    }

    #[inline]
    pub(super) fn peek(&self) -> u8 {
        byte(self.body, self.at)
    }

    #[inline]
    pub(super) fn space(&mut self) {
        self.at = past_space(self.body, self.at);
    }

    /// Takes a byte if it is the next one.
    #[inline]
    pub(super) fn take(&mut self, expected: u8) -> bool {
        let found = self.peek() == expected;
        self.at += usize::from(found);
        found
    }

    /// Takes a comma, or the closing bracket of a list or an object: whether more follows.
    pub(super) fn more(&mut self, close: u8) -> Result<bool, Syntax> {
        self.space();
        match self.peek() {
            b',' => self.at += 1,
            found if found == close => {
                self.at += 1;
                return Ok(false);
            }
            _ if close == b'}' => return Err(self.fault("expected `,` or `}` after a member of an object")),
            _ => return Err(self.fault("expected `,` or `]` after an element of a list")),
        }
        Ok(true)
    }

    pub(super) fn fault(&self, what: &'static str) -> Syntax {
        Syntax { at: self.at.min(self.body.len()), what }
    }

    /// Takes a word: `true`, `false`, `null`.
    pub(super) fn word(&mut self, word: &str) -> Result<(), Syntax> {
        for &letter in word.as_bytes() {
            if !self.take(letter) {
                return Err(self.fault("expected a value"));
            }
        }
        Ok(())
    }

    /// Takes the key of a member and the colon behind it.
    pub(super) fn key(&mut self) -> Result<Text, Syntax> {
        self.space();
        if self.peek() != b'"' {
            return Err(self.fault("expected the name of a member in quotes"));
        }
        let key = self.string()?;
        self.space();
        if !self.take(b':') {
            return Err(self.fault("expected `:` after the name of a member"));
        }
        Ok(key)
    }

    /// Takes a string and checks its escapes (`ParseStringToStream`, reader.h). Bytes that are not
    /// UTF-8 are passed on, and so is an escaped low surrogate without its high one.
    pub(super) fn string(&mut self) -> Result<Text, Syntax> {
        let start = self.at + 1;
        let mut escaped = false;
        self.at = start;
        loop {
            self.at = plain_end(self.body, self.at);
            match self.peek() {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                0 => return Err(self.fault("expected a closing quote")),
                _ => return Err(self.fault("control characters in strings must be escaped")),
            }
        }
        self.at += 1;
        Ok(Text { range: start..self.at - 1, escaped })
    }

    fn escape(&mut self) -> Result<(), Syntax> {
        match byte(self.body, self.at + 1) {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            b'u' => {
                let unit = self.unit()?;
                if (0xd800..0xdc00).contains(&unit) {
                    let pair = byte(self.body, self.at) == b'\\' && byte(self.body, self.at + 1) == b'u';
                    if !pair || !(0xdc00..0xe000).contains(&self.unit()?) {
                        return Err(self.fault("expected a low surrogate after a high one"));
                    }
                }
            }
            _ => return Err(self.fault("invalid escape in a string")),
        }
        Ok(())
    }

    /// Takes `\u` and four digits.
    fn unit(&mut self) -> Result<u32, Syntax> {
        let digits = self.body.get(self.at + 2..self.at + 6).and_then(hex);
        let unit = digits.ok_or_else(|| self.fault("expected four hexadecimal digits after `\\u`"))?;
        self.at += 6;
        Ok(unit)
    }

    /// Takes a value of any kind. Lists and objects are not nested on our stack.
    pub(super) fn skip(&mut self) -> Result<(), Syntax> {
        let mut open = Nesting::default();
        loop {
            self.space();
            let opened = match self.peek() {
                b'[' => {
                    self.at += 1;
                    self.space();
                    (!self.take(b']')).then_some(false)
                }
                b'{' => {
                    self.at += 1;
                    self.space();
                    (!self.take(b'}')).then_some(true)
                }
                _ => {
                    self.skip_scalar()?;
                    None
                }
            };
            if let Some(object) = opened {
                if open.levels == MAX_SKIPPED_LEVELS {
                    return Err(self.fault("nested too deep"));
                }
                open.push(object);
                if object {
                    self.key()?;
                }
                continue;
            }
            loop {
                let Some(object) = open.top() else { return Ok(()) };
                if self.more(if object { b'}' } else { b']' })? {
                    if object {
                        self.key()?;
                    }
                    break;
                }
                open.levels -= 1;
            }
        }
    }

    fn skip_scalar(&mut self) -> Result<(), Syntax> {
        match self.peek() {
            b'"' => self.string().map(drop),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => {
                let number = number::token(self)?;
                if number.too_big {
                    return Err(Syntax { at: number.start, what: number::TOO_BIG });
                }
                Ok(())
            }
        }
    }

    /// Whether the next value is `{"b64": "…"}`: one member, whose value is a string
    /// (`IsValBase64Object`, json_tensor.cc).
    pub(super) fn is_base64_object(&self) -> bool {
        self.clone().base64_object().is_some()
    }

    /// Takes `{"b64": "…"}` and returns the inside of the string. If it is something else the
    /// position is lost.
    pub(super) fn base64_object(&mut self) -> Option<Text> {
        if !self.take(b'{') {
            return None;
        }
        self.space();
        // Cheap for the objects that are none: their first name is another one.
        let name = (self.peek() == b'"').then(|| self.key().ok()).flatten()?;
        if !is_name(self.body, &name, b"b64") {
            return None;
        }
        self.space();
        let text = (self.peek() == b'"').then(|| self.string().ok()).flatten()?;
        self.space();
        self.take(b'}').then_some(text)
    }
}

/// Whether a key is this name once its escapes are resolved.
pub(super) fn is_name(body: &[u8], key: &Text, name: &[u8]) -> bool {
    let raw = &body[key.range.clone()];
    if !key.escaped {
        return raw == name;
    }
    let mut rest = Some(name);
    super::text::unescape(raw, &mut |part| rest = rest.and_then(|rest| rest.strip_prefix(part)));
    rest.is_some_and(<[u8]>::is_empty)
}

/// The first position from `at` on of a quote, a backslash or a control character.
fn plain_end(body: &[u8], mut at: usize) -> usize {
    while let Some(eight) = body.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()) {
        let word = u64::from_le_bytes(eight);
        let is = |value: u8| (word ^ (ONES * u64::from(value))).wrapping_sub(ONES);
        let not = |value: u8| !(word ^ (ONES * u64::from(value)));
        // A borrow can set a bit above a true hit, never below: the lowest bit is right.
        let hits = (is(b'"') & not(b'"') | is(b'\\') & not(b'\\') | word.wrapping_sub(ONES * 0x20) & !word)
            & HIGH_BITS;
        if hits != 0 {
            return at + hits.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while at < body.len() && !matches!(body[at], b'"' | b'\\' | 0..=0x1f) {
        at += 1;
    }
    at
}

/// The number that four hexadecimal digits write.
pub(super) fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, &digit| Some(number << 4 | char::from(digit).to_digit(16)?))
}

// === impl Nesting ===

impl Nesting {
    fn push(&mut self, object: bool) {
        let (word, bit) = (self.levels / 64, self.levels % 64);
        if word == self.bits.len() {
            self.bits.push(0);
        }
        self.bits[word] = self.bits[word] & !(1 << bit) | u64::from(object) << bit;
        self.levels += 1;
    }

    fn top(&self) -> Option<bool> {
        let last = self.levels.checked_sub(1)?;
        Some(self.bits[last / 64] >> (last % 64) & 1 == 1)
    }
}
