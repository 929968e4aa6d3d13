//! JSON as TF Serving's RapidJSON 1.1.0 reads it: what is an error and where, and which numbers.
//!
//! [`check`] finds the first syntax error, then [`Walk`] steps through a document without errors as
//! often as needed. Neither recurses, and only the check allocates: one bit for each open bracket.
mod lex;
mod number;
mod syntax;
mod text;
mod walk;

#[cfg(test)]
mod tests;

pub use number::Number;
pub use syntax::{SyntaxError, SyntaxErrorKind, check};
pub use text::Text;
pub use walk::{Event, Kind, Walk};
