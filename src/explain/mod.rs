//! Floor 2: what TensorFlow Serving's errors mean and who can do something about them. Pure text: a
//! message in, a sentence out.
//!
//! The tables are ordered: the first row whose text is found wins. A `*` in a text stands for
//! anything. A new row needs no test of its own: every text of every row is tried on the tables.
mod batching;
mod kernels;
mod load;
mod overload;
mod request;

use std::fmt;

pub use overload::{Overload, overload};

/// Who has to act before the error goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// Whoever writes the program that sends requests.
    Client,
    /// Whoever exports the model.
    Exporter,
    /// Whoever runs TensorFlow Serving.
    Platform,
}

/// A family of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// What the error says; any of them.
    pub texts: &'static [&'static str],
    pub actor: Actor,
    /// What it means and what to do: ASCII, one line, at most [`MAX_LENGTH`] bytes.
    pub meaning: &'static str,
    /// Where the text comes from, or the report that shows it.
    pub source: &'static str,
}

/// Bytes of a meaning: the original text must stay the larger part of a header.
pub const MAX_LENGTH: usize = 300;

/// Bytes of a message that are looked at: TF Serving cuts its own at 1024.
const SEARCHED: usize = 4096;

const fn row(
    actor: Actor,
    texts: &'static [&'static str],
    meaning: &'static str,
    source: &'static str,
) -> Explanation {
    Explanation { texts, actor, meaning, source }
}

/// The sections of the tables, in the order in which they are tried.
pub const SECTIONS: &[(&str, &[Explanation])] = &[
    ("The request, before the model runs", request::ROWS),
    ("Batching and load", batching::ROWS),
    ("The graph and its version", load::ROWS),
    ("Inside the model", kernels::ROWS),
];

/// The family that an error message belongs to.
pub fn explain(message: &str) -> Option<&'static Explanation> {
    let message = message.get(..SEARCHED).unwrap_or(message);
    let mut rows = SECTIONS.iter().flat_map(|(_, rows)| rows.iter());
    rows.find(|row| row.texts.iter().any(|text| is_in(text, message)))
}

/// Whether the parts of a text between its `*` are in the message, one after the other.
fn is_in(text: &str, message: &str) -> bool {
    let mut rest = message;
    text.split('*').all(|part| match rest.find(part) {
        Some(at) => {
            rest = rest.get(at + part.len()..).unwrap_or_default();
            true
        }
        None => false,
    })
}

/// What is put behind the original text: ` [tfs-sidecar: ... (act: client)]`.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " [tfs-sidecar: {} (act: {})]", self.meaning, self.actor)
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Exporter => "exporter",
            Self::Platform => "platform",
        })
    }
}

#[cfg(test)]
mod tests;
