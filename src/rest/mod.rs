//! Layer 2: TF Serving's REST API as messages: JSON bodies become requests, answers become JSON.
mod chunks;
#[cfg(test)]
mod identity_tests;
pub mod json;
pub mod openapi;
#[cfg(test)]
mod random;
pub mod read;
pub mod theirs;
pub mod write;
