//! TF Serving as the upstream: its address, the connections to it, and calls over them.
pub mod call;
pub(crate) mod dial_error;
pub mod pool;
pub mod target;
pub mod unary;
pub mod up;
