//! Protobuf messages as JSON, as TF Serving prints model status and metadata: one space a level,
//! absent values printed, field names as in the proto files (`http_rest_api_util.cc`).
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Refusal;
use super::out::Out;

/// Writes JSON value by value.
#[derive(Debug)]
pub(super) struct Json {
    pub(super) out: Out,
    level: usize,
    /// Whether the innermost object or array has no values yet.
    empty: bool,
}

impl Json {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { out: Out::new(1024, max_bytes), level: 0, empty: true }
    }

    pub(super) fn open(&mut self, bracket: &[u8]) -> Result<(), Refusal> {
        self.level += 1;
        self.empty = true;
        self.out.put(bracket)
    }

    pub(super) fn close(&mut self, bracket: &[u8]) -> Result<(), Refusal> {
        self.level -= 1;
        if !self.empty {
            self.line()?;
        }
        self.empty = false;
        self.out.put(bracket)
    }

    /// Begins a value of an array.
    pub(super) fn item(&mut self) -> Result<(), Refusal> {
        if !self.empty {
            self.out.put(b",")?;
        }
        self.empty = false;
        self.line()
    }

    pub(super) fn key(&mut self, name: &str) -> Result<(), Refusal> {
        self.item()?;
        self.string(name)?;
        self.out.put(b": ")
    }

    fn line(&mut self) -> Result<(), Refusal> {
        self.out.put(b"\n")?;
        (0..self.level).try_for_each(|_| self.out.put(b" "))
    }

    /// A string, with the escapes of protobuf (`json_escaping.cc`).
    pub(super) fn string(&mut self, text: &str) -> Result<(), Refusal> {
        self.out.put(b"\"")?;
        let (mut units, mut utf8) = ([0; 2], [0; 4]);
        for character in text.chars() {
            let short: &[u8] = match character {
                '"' => b"\\\"",
                '\\' => b"\\\\",
                '\u{8}' => b"\\b",
                '\u{c}' => b"\\f",
                '\n' => b"\\n",
                '\r' => b"\\r",
                '\t' => b"\\t",
                _ if is_escaped(character) => {
                    for unit in character.encode_utf16(&mut units) {
                        self.out.put(format!("\\u{unit:04x}").as_bytes())?;
                    }
                    continue;
                }
                _ => character.encode_utf8(&mut utf8).as_bytes(),
            };
            self.out.put(short)?;
        }
        self.out.put(b"\"")
    }

    pub(super) fn base64(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.string(&STANDARD.encode(bytes))
    }

    pub(super) fn literal(&mut self, text: &str) -> Result<(), Refusal> {
        self.out.put(text.as_bytes())
    }

    /// An enum: its name, or the number of an unknown one.
    pub(super) fn name(&mut self, name: Option<&str>, number: i32) -> Result<(), Refusal> {
        match name {
            Some(name) => self.string(name),
            None => self.literal(&number.to_string()),
        }
    }
}

/// Control and formatting characters, and those that could end a script in HTML.
fn is_escaped(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}' | '<' | '>' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{6dd}' | '\u{70f}'
        | '\u{17b4}' | '\u{17b5}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}
