//! Why a file cannot be read, and where.
use std::fmt;
use std::io;

/// A place in a file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    File,
    Line(u64),
    /// A record of a TFRecord file.
    Entry(u64),
    /// A row of a table without lines.
    Row(u64),
}

/// What is wrong with a file, without its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub place: Place,
    pub text: String,
}

impl Fault {
    pub fn new(text: impl Into<String>) -> Self {
        Self { place: Place::File, text: text.into() }
    }

    /// The same fault at a place, unless it has one.
    pub fn at(self, place: Place) -> Self {
        if self.place == Place::File { Self { place, ..self } } else { self }
    }
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::new(match error.kind() {
            io::ErrorKind::UnexpectedEof => "the file ends too early".to_owned(),
            _ => error.to_string(),
        })
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::File => f.write_str(&self.text),
            Place::Line(line) => write!(f, "line {line}: {}", self.text),
            Place::Entry(record) => write!(f, "record {record}: {}", self.text),
            Place::Row(row) => write!(f, "row {row}: {}", self.text),
        }
    }
}
