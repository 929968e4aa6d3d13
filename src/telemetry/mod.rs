//! STUB until telemetry lands.
pub mod metrics;
