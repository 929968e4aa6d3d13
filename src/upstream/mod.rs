//! TF Serving as the upstream: where it is, the connections to it, and calls over them.
pub mod call;
pub mod pool;
pub mod target;
pub mod unary;
