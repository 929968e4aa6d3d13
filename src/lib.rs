//! tfs-sidecar: a proxy that checks, repairs and explains requests to TensorFlow Serving.
pub mod config;
pub mod fault;
pub mod front;
pub mod proto;
pub mod repair;
pub mod server;
pub mod service;
pub mod signature;
pub mod telemetry;
pub mod tensor;
pub mod upstream;
pub mod wire;
