//! The life of the process as clients and probes see it: ready or not, draining or not.
mod drain;
mod readiness;

pub use drain::DrainHandle;
pub use readiness::Readiness;
