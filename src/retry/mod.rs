//! Whether and when something is tried again. Pure: time and randomness are passed in.
pub mod backoff;
pub mod budget;
pub mod policy;
