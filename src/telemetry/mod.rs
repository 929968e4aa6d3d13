//! What operators see: metrics, logs and recent repairs. Tensor values appear in none of them.
mod labels;
pub mod log;
pub mod metrics;
pub mod recent;
mod signature_info;
mod table;
