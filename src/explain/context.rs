//! What is known of the request that an error answers.
use std::fmt;

use bytes::Bytes;

use crate::signature::{Signature, TensorInfo};
use crate::tensor::{DataType, Shape};

/// What the explanation of an error may use.
#[derive(Clone, Copy, Default)]
pub struct Context<'a> {
    /// Whether requests of several clients are run as one batch, by TensorFlow Serving or by the
    /// sidecar.
    pub batching: bool,
    /// The Predict request; `None` for other methods and where it is not known.
    pub sent: Option<&'a dyn Sent>,
}

/// A Predict request as TensorFlow Serving got it. It is read only when an error calls for it.
pub trait Sent {
    /// The inputs that went out, repairs included.
    fn inputs(&self) -> Vec<Input<'_>>;
    /// The signature, if there is one of the requested name.
    fn signature(&self) -> Option<&Signature>;
    fn output_filter(&self) -> &[String];
    /// Whether the inputs differ in their number of rows, and this may be why the request failed.
    fn rows_differ(&self) -> bool {
        false
    }
    /// The first few values of the one input of strings; empty if there are none or several.
    fn strings(&self) -> Vec<Bytes>;
}

/// One input of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input<'a> {
    pub alias: &'a str,
    pub dtype: DataType,
    pub shape: &'a Shape,
    /// The dtype and shape that the client sent, if a repair changed them.
    pub repaired_from: Option<(DataType, &'a Shape)>,
}

impl<'a> Input<'a> {
    /// What the signature declares, if the input does not conform to it.
    pub(super) fn violates(&self, signature: Option<&'a Signature>) -> Option<&'a TensorInfo> {
        let info = signature?.input(self.alias)?;
        (info.dtype != self.dtype || !info.shape.accepts(self.shape)).then_some(info)
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inputs = self.sent.map(Sent::inputs);
        f.debug_struct("Context").field("batching", &self.batching).field("inputs", &inputs).finish()
    }
}
