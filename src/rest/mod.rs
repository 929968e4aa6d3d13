//! Layer 2: TF Serving's REST API: JSON bodies to tensors, and answers to JSON.
pub mod json;
pub mod theirs;
