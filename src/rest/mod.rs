//! TF Serving's REST API without the network: JSON bodies to messages, and messages to JSON.
pub mod read;
//! Layer 2: TF Serving's REST API: JSON bodies to tensors, and answers to JSON.
pub mod openapi;
pub mod write;
pub mod json;
pub mod theirs;
