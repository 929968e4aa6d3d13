//! Whether and when something is tried again. Pure: time and randomness are passed in.
pub(crate) mod backoff;
pub(crate) mod budget;
pub(crate) mod policy;
