//! What training data looks like, so that live traffic can be compared with it.
mod answers;
mod checks;
pub mod compare;
pub mod describe;
mod drift;
mod evidence;
mod file;
mod finding;
mod judge;
mod likelihood;
mod mistakes;
mod model;
mod moments;
mod rows;
mod sample;
mod trial;
mod window;

#[cfg(test)]
mod tests;

pub use answers::{AnswerWatch, CONSTANT_AFTER, hash_values};
pub use checks::Checks;
pub use drift::{Drift, WORST};
pub use file::{MAX_FILE_BYTES, Problem, Problems};
pub use finding::{CallerFinding, Detail, Finding, Kind, MAX_SHOWN_BYTES, Mistake, Value};
pub use likelihood::{DECISIVE, RawOrProfile, raw_against_profile};
pub use model::{
    By, FeatureProfile, MAX_FEATURES, MAX_TENSORS, MAX_TEXT_BYTES, MAX_VALUES, Profile, QUANTILES, Scaler,
    TensorProfile, TextProfile,
};
pub use rows::{MAX_FINDINGS, texts};
pub use sample::{Budget, Sample};
pub use window::Window;
