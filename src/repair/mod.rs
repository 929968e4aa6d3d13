//! Repair: whether a request conforms to its signature, what would make it conform, and what it must be told otherwise.
pub mod policy;
