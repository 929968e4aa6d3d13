//! The generated TensorFlow and TensorFlow Serving messages and clients, nothing else.
#![expect(missing_docs, clippy::all, clippy::pedantic, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/protos.rs"));

/// The descriptors of every vendored proto file, as `google.protobuf.FileDescriptorSet` bytes: what gRPC reflection serves.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
