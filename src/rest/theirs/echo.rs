//! Quotes of values in error texts: pretty-printed by RapidJSON, and cut.
use super::decimal;
use crate::rest::json::{Event, Number, Text, Walk};

/// A quote ends after the value or name with which it reaches this length (`json_tensor.cc`).
const LIMIT: usize = 256;
const INDENT: usize = 4;

/// The value at an offset of a document without syntax errors, as an error text quotes it.
pub(super) fn echo(document: &[u8], start: usize) -> Vec<u8> {
    let mut walk = Walk::at(document, start);
    let mut echo = Echo::default();
    while echo.put(walk.step()) {}
    echo.out
}

#[derive(Debug, Default)]
struct Echo {
    out: Vec<u8>,
    /// The open arrays and objects. Each has taken a byte of `out`, so there are few.
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    object: bool,
    empty: bool,
    /// Whether a name was written, and its value comes next.
    named: bool,
}

impl Echo {
    /// Writes an event. Returns whether more follows.
    fn put(&mut self, event: Event<'_>) -> bool {
        match event {
            Event::EndArray | Event::EndObject => {
                let Some(level) = self.levels.pop() else { return false };
                if level.object && !level.empty {
                    self.out.push(b'\n');
                    self.indent();
                }
                self.out.push(if level.object { b'}' } else { b']' });
            }
            Event::End => return false,
            _ => {
                self.separate();
                if !self.value(event) {
                    return false;
                }
            }
        }
        !self.levels.is_empty() && self.out.len() < LIMIT
    }

    /// What comes before a value or a name (`PrettyPrefix` in `prettywriter.h`, with all elements
    /// of an array on one line).
    fn separate(&mut self) {
        let Some(level) = self.levels.last_mut() else { return };
        let first = std::mem::replace(&mut level.empty, false);
        if !level.object {
            self.out.extend_from_slice(if first { b"" } else { b", " });
            return;
        }
        level.named = !level.named;
        if level.named {
            self.out.extend_from_slice(if first { b"\n" } else { b",\n" });
            self.indent();
        } else {
            self.out.extend_from_slice(b": ");
        }
    }

    fn indent(&mut self) {
        self.out.resize(self.out.len() + INDENT * self.levels.len(), b' ');
    }

    fn value(&mut self, event: Event<'_>) -> bool {
        let word: &[u8] = match event {
            Event::StartArray | Event::StartObject => {
                let object = event == Event::StartObject;
                self.levels.push(Level { object, empty: true, named: false });
                if object { b"{" } else { b"[" }
            }
            Event::Key(text) | Event::String(text) => {
                self.string(text);
                b""
            }
            Event::Number(number) => return self.number(number),
            Event::Bool(true) => b"true",
            Event::Bool(false) => b"false",
            _ => b"null",
        };
        self.out.extend_from_slice(word);
        true
    }

    /// Writes a number. RapidJSON writes nothing for NaN and infinities, and then no more.
    fn number(&mut self, number: Number) -> bool {
        let mut buffer = itoa::Buffer::new();
        let digits = match number {
            Number::Unsigned(value) => buffer.format(value),
            Number::Negative(value) => buffer.format(value),
            Number::Double(value) => {
                if value.is_finite() {
                    decimal::put(&mut self.out, value);
                }
                return value.is_finite();
            }
        };
        self.out.extend_from_slice(digits.as_bytes());
        true
    }

    fn string(&mut self, text: Text<'_>) {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        self.out.push(b'"');
        for byte in text.unescaped().iter() {
            let letter = match byte {
                b'"' | b'\\' => *byte,
                8 => b'b',
                12 => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0..0x20 => {
                    self.out.extend_from_slice(b"\\u00");
                    self.out.extend([byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]));
                    continue;
                }
                _ => {
                    self.out.push(*byte);
                    continue;
                }
            };
            self.out.extend([b'\\', letter]);
        }
        self.out.push(b'"');
    }
}
