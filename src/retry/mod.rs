//! Whether and when something is tried again: pure, time and randomness are passed in.
pub mod backoff;
pub mod budget;
