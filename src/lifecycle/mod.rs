//! The lifecycle of the process as clients and probes see it: readiness and draining.
mod drain;
mod health;
mod readiness;

pub(crate) use drain::{DrainHandle, DrainedBy};
pub(crate) use health::{Health, HealthService};
pub(crate) use readiness::Readiness;
