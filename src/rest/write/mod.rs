//! Answers of TF Serving, which are gRPC messages, as the JSON of its REST API.
#![allow(clippy::inline_always, reason = "calls within the loop over numbers slow it down")]
mod digits;
mod double;
mod error;
mod float;
mod layout;
mod models;
mod out;
mod place;
mod powers;
mod predict;
mod proto;
mod results;
mod strings;
mod values;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod number_tests;
#[cfg(test)]
mod property_tests;

pub use error::{Detail, error, http_status};
pub use models::{metadata, status};
pub use predict::predict;
pub use results::{classify, regress};

use crate::tensor::DataType;

/// The form of a predict request, which its answer has too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `instances`, answered by `predictions`.
    Row,
    /// `inputs`, answered by `outputs`.
    Column,
}

/// A message as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The body.
    pub json: Vec<u8>,
    /// The version that answered, if the message says so.
    pub version: Option<i64>,
    /// The first output with strings that are not UTF-8. They are replaced by U+FFFD where they are
    /// not; TF Serving writes them as they are, which is not JSON.
    pub replaced: Option<String>,
}

/// Why a message has no JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// The gRPC code.
    pub code: i32,
    /// TF Serving's text where it refuses too.
    pub text: String,
}

const INVALID_ARGUMENT: i32 = 3;
const RESOURCE_EXHAUSTED: i32 = 8;
const INTERNAL: i32 = 13;

impl Refusal {
    fn invalid(text: &str) -> Self {
        Self { code: INVALID_ARGUMENT, text: text.to_owned() }
    }

    fn unprintable(dtype: DataType) -> Self {
        Self::invalid(&format!("Failed to write JSON value for tensor type: {dtype}"))
    }

    fn unreadable(what: &str) -> Self {
        Self { code: INTERNAL, text: format!("cannot read TensorFlow Serving's answer: {what}") }
    }

    fn too_long(max: usize) -> Self {
        Self { code: RESOURCE_EXHAUSTED, text: format!("the answer is too long as JSON (limit {max} bytes)") }
    }
}
