//! The generated TensorFlow and TensorFlow Serving messages and clients, nothing else.
#![allow(clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/protos.rs"));

/// The descriptors of every vendored proto file, as `google.protobuf.FileDescriptorSet` bytes: what
/// gRPC reflection serves.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
