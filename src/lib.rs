//! tfs-sidecar: a proxy that checks, repairs and explains requests to TensorFlow Serving.
//!
//! The product is the program. What is public here is for its tests, fuzz targets and benchmarks.
mod sorting;
mod spelling;
pub mod tensor;
mod yaml;

pub mod signature;
pub mod wire;

mod batch;
mod concurrency;
pub mod doctor;
pub mod explain;
pub mod profile;
pub mod repair;
pub mod rest;
mod retry;

mod census;
pub mod config;
pub mod dataset;
mod fault;
pub mod proto;
mod tasks;
mod telemetry;

pub mod transport;

pub mod limiter;
mod preprocessing;
mod runs;
mod upstream;

mod lifecycle;
mod models;

mod pipeline;

mod listener;
pub mod server;

pub mod cli;

#[cfg(test)]
mod generated;
