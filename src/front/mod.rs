//! The doors of the sidecar.
pub mod admin;
pub mod grpc;
