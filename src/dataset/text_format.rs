//! The text format of protocol buffers, as far as schemas use it: one event at a time.

/// What comes next.
#[derive(Debug, PartialEq)]
pub(super) enum Event<'a> {
    /// `key {`
    Open(&'a str),
    Close,
    /// `key: value`, without quotes and escapes.
    Field(&'a str, String),
    End,
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    line: u64,
    /// The key whose list of values is open: `key: [1, 2]`.
    list: Option<&'a str>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, line: 1, list: None }
    }

    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The next event.
    ///
    /// # Errors
    /// What is wrong here.
    pub(super) fn next(&mut self) -> Result<Event<'a>, String> {
        self.skip();
        if let Some(key) = self.list {
            if self.take("]") {
                self.list = None;
                return self.next_outside();
            }
            return if self.take("{") { Ok(Event::Open(key)) } else { Ok(Event::Field(key, self.value()?)) };
        }
        self.next_outside()
    }

    fn next_outside(&mut self) -> Result<Event<'a>, String> {
        self.skip();
        if self.text.is_empty() {
            return if self.list.is_some() { Err("a `]` is missing".to_owned()) } else { Ok(Event::End) };
        }
        if self.take("}") || self.take(">") {
            return Ok(Event::Close);
        }
        let key = self.word();
        if key.is_empty() {
            return Err(format!("expected the name of a field, got `{}`", self.shown()));
        }
        self.skip();
        let colon = self.take(":");
        self.skip();
        if self.take("{") || self.take("<") {
            return Ok(Event::Open(key));
        }
        if !colon {
            return Err(format!("expected `:` or `{{` after `{key}`"));
        }
        if self.take("[") {
            self.list = Some(key);
            self.skip();
            if self.take("]") {
                self.list = None;
                return Ok(Event::Field(key, String::new()));
            }
            return if self.take("{") { Ok(Event::Open(key)) } else { Ok(Event::Field(key, self.value()?)) };
        }
        Ok(Event::Field(key, self.value()?))
    }

    /// A number, a word, or strings, which are joined.
    fn value(&mut self) -> Result<String, String> {
        if !self.text.starts_with(['"', '\'']) {
            let word = self.word();
            return if word.is_empty() {
                Err(format!("expected a value, got `{}`", self.shown()))
            } else {
                Ok(word.to_owned())
            };
        }
        let mut bytes = Vec::new();
        while let Some(quote) = self.text.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            self.advance(1);
            self.string(quote, &mut bytes)?;
            // Not over a comma, after which another value begins.
            self.skip_over(|c| c.is_ascii_whitespace());
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn string(&mut self, quote: char, bytes: &mut Vec<u8>) -> Result<(), String> {
        loop {
            let Some(c) = self.text.chars().next().filter(|c| *c != '\n') else {
                return Err("a string is not closed".to_owned());
            };
            self.advance(c.len_utf8());
            if c == quote {
                return Ok(());
            }
            if c != '\\' {
                bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            let Some(escaped) = self.text.chars().next() else {
                return Err("a string is not closed".to_owned());
            };
            let octal = self.text.bytes().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
            if octal > 0 {
                let digits = self.text.get(..octal).unwrap_or_default();
                // Beyond a byte, as in `\777`, only the low bits count.
                bytes.push(u32::from_str_radix(digits, 8).unwrap_or_default() as u8);
                self.advance(octal);
                continue;
            }
            self.advance(escaped.len_utf8());
            match escaped {
                'n' => bytes.push(b'\n'),
                't' => bytes.push(b'\t'),
                'r' => bytes.push(b'\r'),
                'x' | 'X' => {
                    let hex = self.text.bytes().take(2).take_while(u8::is_ascii_hexdigit).count();
                    let digits = self.text.get(..hex).unwrap_or_default();
                    bytes.push(u8::from_str_radix(digits, 16).map_err(|_| "expected digits after `\\x`")?);
                    self.advance(hex);
                }
                other => bytes.extend(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    fn word(&mut self) -> &'a str {
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '+');
        let end = self.text.find(|c| !inside(c)).unwrap_or(self.text.len());
        let word = self.text.get(..end).unwrap_or_default();
        self.advance(end);
        word
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.text.starts_with(token);
        if found {
            self.advance(token.len());
        }
        found
    }

    /// Steps over blanks, comments, and what may stand between fields.
    fn skip(&mut self) {
        self.skip_over(|c| c.is_ascii_whitespace() || c == ',' || c == ';');
    }

    fn skip_over(&mut self, between: impl Fn(char) -> bool) {
        loop {
            let end = self.text.find(|c: char| !between(c));
            self.advance(end.unwrap_or(self.text.len()));
            if !self.text.starts_with('#') {
                return;
            }
            self.advance(self.text.find('\n').unwrap_or(self.text.len()));
        }
    }

    fn advance(&mut self, bytes: usize) {
        let (over, rest) = self.text.split_at_checked(bytes).unwrap_or((self.text, ""));
        self.line += over.bytes().filter(|byte| *byte == b'\n').count() as u64;
        self.text = rest;
    }

    fn shown(&self) -> String {
        self.text.chars().take(10).flat_map(char::escape_debug).collect()
    }
}
