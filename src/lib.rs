//! tfs-sidecar: a proxy that checks, repairs and explains requests to TensorFlow Serving.
pub mod proto;
pub mod tensor;

pub mod signature;
pub mod wire;

pub mod repair;

pub mod config;
pub mod telemetry;

pub mod front;
pub mod server;

pub mod cli;

#[cfg(test)]
mod generated;
