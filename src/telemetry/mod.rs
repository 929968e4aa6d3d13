//! What operators see: metrics and log lines. Tensor values appear in neither.
mod labels;
pub mod log;
pub mod metrics;
pub mod recent;
mod signature_info;
mod table;
