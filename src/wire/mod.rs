//! Floor 1: reading and writing protobuf messages around their tensor values, without decoding or
//! copying these.
//!
//! A message stays the [`Rope`] of chunks that it came in. A scan notes *where* things are (byte
//! ranges); tensor values are never decoded unless a cast has to look at them. What is written anew
//! is a few dozen bytes of heads between slices of the old chunks, so fields that this program has
//! never heard of go on as they were.
pub mod emit;
pub mod infer;
pub mod model_spec;
pub mod predict;
pub mod reply;
pub mod rope;
pub mod rows;
pub mod scan;
pub mod tensor;
pub mod values;

pub use model_spec::{DEFAULT_SIGNATURE, ModelSpec, VersionChoice};
pub use predict::{InputView, PredictView};
pub use rope::Rope;
pub use scan::WireError;
pub use tensor::TensorView;
