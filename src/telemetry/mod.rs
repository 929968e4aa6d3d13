//! What operators see: metrics, logs and recent repairs. Tensor values appear in none of them.
pub(crate) mod clients;
pub(crate) mod events;
pub(crate) mod labels;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod mistakes;
#[cfg(test)]
mod questions;
pub(crate) mod recent;
mod replaced;
mod table;
pub(crate) mod trace_parent;
pub(crate) mod traces;
pub(crate) mod traffic;
mod versions;
