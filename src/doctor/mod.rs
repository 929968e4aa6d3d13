//! Layer 2: what is wrong with a SavedModel before it is served, from its bytes.
//!
//! Pure: readers and bytes in, values out. A SavedModel may have 2 GB; it is read field by field,
//! and what it holds of constants is skipped.
mod fields;
pub mod graph;
mod reach;
pub mod saved_model;

pub use fields::ReadError;
pub use saved_model::{MetaGraph, SavedModel};
