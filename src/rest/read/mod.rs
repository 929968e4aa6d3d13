//! Reads the JSON body of a Predict request: values go straight into typed tensors, in one pass.
//!
//! The grammar is RapidJSON's, and the rules are those of TF Serving's json_tensor.cc, but what it
//! reads silently wrong is a finding here.
#![allow(clippy::inline_always, reason = "calls within the loop over numbers double its time")]

mod body;
mod codec;
mod cursor;
mod finding;
mod float;
mod number;
mod object;
pub mod place;
mod short;
mod slot;
mod text;
mod value;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use finding::{Finding, Findings, Kind, Severity};

use crate::signature::Signature;
use crate::tensor::{DataType, Shape};
use crate::wire::Rope;
use crate::wire::emit::{self, Values};
use cursor::Cursor;
use value::{Reader, Stop};

/// `PredictRequest.model_spec`
const MODEL_SPEC: u32 = 1;
/// `PredictRequest.inputs`
const INPUTS: u32 = 2;

/// How the values are arranged. TF Serving answers in the same format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `instances`: a list, each element with all inputs.
    Row {
        instances: u64,
        /// The elements are values, not objects with names.
        plain: bool,
    },
    /// `inputs`: whole tensors.
    Column,
}

/// How a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Accept `1.0` and `1e2` for integers.
    pub integral_floats: bool,
    /// Accept `"3.5"` for numbers.
    pub string_numbers: bool,
    /// Accept `true` and `false` for numbers, and 0 and 1 for bools.
    pub bool_numbers: bool,
    /// Elements of an input.
    pub max_elements: u64,
    /// Bytes of all tensors together.
    pub max_bytes: u64,
    /// Read silently wrong values as TF Serving does: 300 for uint8 is 44, 1e39 for float is
    /// infinite, the values of repeated keys are appended, names end at a NUL.
    pub as_served: bool,
}

/// A body that was read.
#[derive(Debug)]
pub struct Read {
    /// As sent; empty if there is none.
    pub signature_name: String,
    pub signature: Arc<Signature>,
    pub format: Format,
    /// Declared inputs in the order of the signature, then others in the order of the body.
    pub inputs: Vec<Input>,
    /// What is not a problem.
    pub findings: Findings,
}

/// A tensor.
#[derive(Debug, Clone)]
pub struct Input {
    pub name: String,
    pub dtype: DataType,
    pub shape: Shape,
    /// The payload of `tensor_content`; for strings, encoded fields `string_val`.
    pub values: Rope,
    /// Where its first value is in the body, in bytes; in rows without names, the list of them.
    pub at: usize,
}

/// Reads a body for the signature that `choose` finds for its name; an empty name is the default.
/// It may be asked more than once.
///
/// # Errors
/// All findings, if one of them is a problem.
pub fn read(
    body: &[u8],
    choose: &dyn Fn(&str) -> Option<Arc<Signature>>,
    options: &Options,
) -> Result<Read, Findings> {
    let mut reader = Reader { cursor: Cursor::new(body), options, findings: Findings::default(), bytes: 0 };
    let outcome = reader.body(choose);
    if let Err(Stop::Syntax(syntax)) = outcome {
        reader.syntax(syntax);
    }
    match outcome {
        Ok(Some(read)) if !read.findings.has_problems() => Ok(read),
        Ok(Some(read)) => Err(read.findings),
        Ok(None) | Err(_) => Err(reader.findings),
    }
}

impl Read {
    /// The `PredictRequest` with these inputs. `model_spec` is the encoded `ModelSpec`.
    pub fn message(&self, model_spec: &[u8]) -> Rope {
        let mut out = emit::field(MODEL_SPEC, Rope::from(model_spec.to_vec()));
        for input in &self.inputs {
            let length = input.values.len();
            let values = match input.dtype {
                DataType::STRING => Values::Fields { length },
                _ => Values::Content { length },
            };
            out.push(emit::entry_head(INPUTS, &input.name, input.dtype, &input.shape, values, 0));
            out.append(input.values.clone());
        }
        out
    }
}
