//! Layer 1: reads and rewrites protobuf messages without decoding or copying their tensor values.
//!
//! A message stays the [`Rope`] of chunks in which it was received. A scan records *where* things
//! are (byte ranges). Tensor values are decoded only if a cast needs them. A rewrite puts a few
//! dozen new bytes between slices of the old chunks, so unknown fields are passed on unchanged.
pub mod emit;
pub mod infer;
mod model_spec;
mod predict;
pub mod reply;
pub(crate) mod rope;
pub(crate) mod rows;
pub mod scan;
#[cfg(test)]
mod scan_tests;
pub(crate) mod tensor;
pub mod tfrecord;
pub mod values;

pub use model_spec::{DEFAULT_SIGNATURE, ModelSpec, VersionChoice};
pub use predict::{InputView, PredictView};
pub use rope::Rope;
pub use scan::WireError;
pub use tensor::TensorView;
