//! What operators see: metrics, logs and recent repairs. Tensor values appear in none of them.
pub(crate) mod clients;
pub(crate) mod events;
pub(crate) mod labels;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod recent;
mod replaced;
mod table;
mod versions;
