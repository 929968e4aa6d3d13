//! TF Serving's REST API without the network: JSON bodies to messages, and messages to JSON.
pub mod read;
