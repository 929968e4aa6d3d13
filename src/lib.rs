//! tfs-sidecar: a proxy that checks, repairs and explains requests to TensorFlow Serving.
pub mod proto;
pub mod tensor;

pub mod signature;
pub mod wire;


