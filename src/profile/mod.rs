//! What training data looks like, so that live traffic can be compared with it.
pub mod compare;
pub mod describe;
mod file;
mod model;

pub use file::{MAX_FILE_BYTES, Problem, Problems};
pub use model::{
    By, FeatureProfile, MAX_FEATURES, MAX_TENSORS, MAX_TEXT_BYTES, MAX_VALUES, Profile, QUANTILES, Scaler,
    TensorProfile, TextProfile,
};
