//! Layer 2: what is wrong with a SavedModel before it is served, from its bytes.
//!
//! Pure: readers and bytes in, values out. A SavedModel may have 2 GB; it is read field by field,
//! and what it holds of constants is skipped.
pub mod bundle;
mod fields;
pub mod files;
pub mod finding;
pub mod fingerprint;
pub mod graph;
pub mod lint;
pub mod ops;
pub mod probe;
mod reach;
pub mod saved_model;
#[cfg(test)]
mod threads;
pub mod warmup;

pub use fields::ReadError;
pub use finding::{Actor, Finding, Level};
pub use saved_model::{MetaGraph, SavedModel};
