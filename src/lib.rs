//! tfs-sidecar: a proxy that checks, repairs and explains requests to TensorFlow Serving.
pub mod proto;
mod spelling;
pub mod tensor;

pub mod signature;
pub mod wire;

pub mod explain;
pub mod governor;
pub mod repair;

pub mod config;
pub mod fault;
pub mod telemetry;

pub mod upstream;

pub mod service;

pub mod front;
pub mod server;

pub mod cli;

#[cfg(test)]
mod generated;
