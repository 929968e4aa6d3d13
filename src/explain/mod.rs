//! Layer 2: what TensorFlow Serving's errors mean and who can fix them. Pure text: a message and
//! what is known of the request in, a sentence out.
//!
//! The rows are ordered: the first one that matches wins. A `*` in a text matches anything. A new
//! row needs no test of its own: the tests try every text of every row.
mod batching;
mod context;
mod detail;
mod example;
mod graph;
mod overload;
mod request;
mod shapes;
mod values;

use std::fmt;

pub use context::{Context, Input, Sent};
use detail::Detail;
pub use detail::fed_outputs;
pub use overload::{Overload, overload};

/// Who has to act before the error goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The author of the program that sends requests.
    Client,
    /// The person who exported the model.
    Exporter,
    /// The operator of TensorFlow Serving.
    Platform,
}

/// A family of errors.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// What the error says: any one of these.
    pub texts: &'static [&'static str],
    pub actor: Actor,
    /// What it means and what to do: ASCII, one line, at most 300 bytes.
    pub meaning: &'static str,
    /// The source file that the text comes from, or a report that shows it.
    pub source: &'static str,
    /// What the request itself adds to the meaning.
    detail: Detail,
    /// Whether the row applies only where requests are batched.
    only_batching: bool,
}

/// An error explained. It is displayed as the text to append to the error:
/// ` [tfs-sidecar: ... (act: client)]`.
#[derive(Debug, PartialEq, Eq)]
pub struct Explanation {
    pub row: &'static Row,
    /// What follows the row's meaning: ASCII, one line, empty where there is nothing to add.
    detail: String,
}

/// Bytes of a message that are searched. TensorFlow Serving cuts its messages at 1024.
const SEARCHED: usize = 4096;

/// The sections of the table, in the order in which they are tried.
pub const SECTIONS: &[(&str, &[Row])] = &[
    ("The request, before the model runs", request::ROWS),
    ("Batching and load", batching::ROWS),
    ("The graph and its version", graph::ROWS),
    ("Shapes inside the model", shapes::ROWS),
    ("Values inside the model", values::ROWS),
];

/// Any error of a request whose inputs differ in their number of rows, if no other row matches.
const ROWS_DIFFER: &Row = &row(
    Actor::Client,
    &[],
    "the inputs of this request have different numbers of rows, which may be why: send the same number in all of them, unless the model takes them so",
    "",
);

/// Explains an error message, if a row matches it or the request itself may be why. The context is
/// read only then.
pub fn explain(message: &str, context: &Context<'_>) -> Option<Explanation> {
    let searched = message.get(..SEARCHED).unwrap_or(message);
    let differing = context.sent.filter(|sent| sent.rows_differ());
    let row = SECTIONS.iter().flat_map(|(_, rows)| *rows).find(|row| row.matches(searched, context));
    let row = row.or(differing.map(|_| ROWS_DIFFER))?;
    let detail = row.detail.text(searched, context);
    let rows = differing.filter(|_| row.actor == Actor::Client && row.detail != Detail::Rows);
    let rows = rows.and_then(detail::differing_rows).map_or_else(String::new, |rows| format!("; {rows}"));
    Some(Explanation { row, detail: rows + &detail })
}

const fn row(
    actor: Actor,
    texts: &'static [&'static str],
    meaning: &'static str,
    source: &'static str,
) -> Row {
    Row { texts, actor, meaning, source, detail: Detail::None, only_batching: false }
}

impl Row {
    const fn detail(mut self, detail: Detail) -> Self {
        self.detail = detail;
        self
    }

    const fn only_batching(mut self) -> Self {
        self.only_batching = true;
        self
    }

    fn matches(&self, message: &str, context: &Context<'_>) -> bool {
        (context.batching || !self.only_batching) && self.texts.iter().any(|text| is_in(text, message))
    }
}

/// Whether the parts of a text between its `*` occur in the message one after the other.
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

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " [tfs-sidecar: {}{} (act: {})]", self.row.meaning, self.detail, self.row.actor)
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
