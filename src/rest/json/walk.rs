//! Steps through a document without syntax errors.
use super::lex::Lexer;
use super::number::Number;
use super::text::Text;

/// What a document consists of. Commas and colons are no events.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event<'a> {
    StartArray,
    EndArray,
    StartObject,
    EndObject,
    /// A member's name.
    Key(Text<'a>),
    String(Text<'a>),
    Number(Number),
    Bool(bool),
    Null,
    /// The end of the document.
    End,
}

/// What comes next, seen from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Array,
    Object,
    /// A string or a member's name.
    String,
    Number,
    True,
    False,
    Null,
    /// The end of an array, of an object or of the document.
    End,
}

impl Kind {
    /// RapidJSON's name of the type, as TF Serving prints it (`JsonTypeString`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Array => "Array",
            Self::Object => "Object",
            Self::String => "String",
            Self::Number => "Number",
            Self::True => "True",
            Self::False => "False",
            Self::Null | Self::End => "Null",
        }
    }
}

/// A position between two values. Copies are cheap: they walk on from the same place.
#[derive(Debug, Clone, Copy)]
pub struct Walk<'a> {
    lexer: Lexer<'a>,
}

impl<'a> Walk<'a> {
    /// Starts at an offset where a value starts, in a document that [`check`](super::check) has
    /// found to have no errors. Otherwise the events end early or make no sense.
    pub fn at(document: &'a [u8], start: usize) -> Self {
        Self { lexer: Lexer { body: document, at: start } }
    }

    /// What comes next.
    pub fn peek(&mut self) -> Kind {
        match self.first_byte() {
            b'[' => Kind::Array,
            b'{' => Kind::Object,
            b'"' => Kind::String,
            b't' => Kind::True,
            b'f' => Kind::False,
            b'n' => Kind::Null,
            b']' | b'}' | 0 => Kind::End,
            _ => Kind::Number,
        }
    }

    /// The offset of what comes next.
    pub fn offset(&mut self) -> usize {
        self.first_byte();
        self.lexer.at
    }

    /// The bytes from an offset up to here.
    pub fn since(&self, offset: usize) -> &'a [u8] {
        self.lexer.body.get(offset..self.lexer.at).unwrap_or_default()
    }

    fn first_byte(&mut self) -> u8 {
        loop {
            self.lexer.skip_space();
            match self.lexer.peek() {
                b',' | b':' => self.lexer.at += 1,
                byte => return byte,
            }
        }
    }

    /// The next event.
    pub fn step(&mut self) -> Event<'a> {
        let event = match self.first_byte() {
            b'[' => Event::StartArray,
            b']' => Event::EndArray,
            b'{' => Event::StartObject,
            b'}' => Event::EndObject,
            _ => return self.scalar(),
        };
        self.lexer.at += 1;
        event
    }

    fn scalar(&mut self) -> Event<'a> {
        let event = match self.lexer.peek() {
            0 => None,
            b'"' => self.lexer.string().ok().map(|text| {
                self.lexer.skip_space();
                if self.lexer.consume(b':') { Event::Key(text) } else { Event::String(text) }
            }),
            b'n' => self.lexer.word(b"null").ok().map(|()| Event::Null),
            b't' => self.lexer.word(b"true").ok().map(|()| Event::Bool(true)),
            b'f' => self.lexer.word(b"false").ok().map(|()| Event::Bool(false)),
            _ => self.lexer.number().ok().map(Event::Number),
        };
        event.unwrap_or_else(|| {
            self.lexer.at = self.lexer.body.len();
            Event::End
        })
    }

    /// Steps over the next value, with all that is in it.
    pub fn skip(&mut self) {
        let mut open = 0_usize;
        loop {
            match self.step() {
                Event::StartArray | Event::StartObject => open += 1,
                Event::EndArray | Event::EndObject => open = open.saturating_sub(1),
                Event::Key(_) => continue,
                Event::End => return,
                _ => {}
            }
            if open == 0 {
                return;
            }
        }
    }
}
