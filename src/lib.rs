//! tfs-sidecar: a proxy that checks, repairs and explains requests to TensorFlow Serving.
pub mod proto;
mod spelling;
pub mod tensor;

pub mod signature;
pub mod wire;

pub mod concurrency;
pub mod explain;
pub mod repair;
pub mod retry;

pub mod config;
pub mod fault;
pub mod telemetry;

pub mod transport;

pub mod limiter;
pub mod upstream;

pub mod lifecycle;
pub mod models;

pub mod pipeline;

pub mod listener;
pub mod server;

pub mod cli;

#[cfg(test)]
mod generated;
