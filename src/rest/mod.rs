//! Layer 2: TF Serving's REST API as messages: JSON bodies become requests, answers become JSON.
pub mod json;
pub mod openapi;
pub mod read;
pub mod theirs;
pub mod write;
