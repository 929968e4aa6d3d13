//! What TF Serving's own REST API makes of a body: its refusal, to the letter, or tf.Examples.
//!
//! It evaluates a body in TF Serving's order: syntax, `signature_name`, the signature, then
//! `instances` or `inputs` (`http_rest_api_handler.cc`, `json_tensor.cc`). No tree of values is
//! made: each step walks over the bytes again. Time is linear in the body. Memory beside the result
//! is a bit for each open bracket, 16 bytes for each name of one example, and a quoted string.
mod base64;
mod decimal;
mod document;
mod echo;
mod examples;
mod feature;
mod grisu;
mod instances;
mod names;
mod refusal;
mod tensor;

#[cfg(test)]
mod tests;

pub use document::Document;
pub use examples::{Doubts, Examples, examples, is_predict};
pub use refusal::{Code, Refusal};

use crate::signature::Signatures;

/// The refusal of a Predict body by TF Serving before a model runs; `None` if it runs the model.
///
/// Where TF Serving's text depends on the random order of a map (of several inputs that are missing
/// from `inputs`, which one it names), it is the one for the alphabetical order.
pub fn refusal(body: &[u8], signatures: &Signatures) -> Option<Refusal> {
    match Document::read(body) {
        Ok(document) => document.predict_refusal(signatures),
        Err(refusal) => Some(refusal),
    }
}
