//! The lifecycle of the process as clients and probes see it: readiness and draining.
mod drain;
mod readiness;

pub use drain::DrainHandle;
pub use readiness::Readiness;
