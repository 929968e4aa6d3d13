//! TF Serving as the upstream: its address, the connections to it, and calls over them.
pub(crate) mod call;
pub(crate) mod dial_error;
mod hang;
mod header_list;
pub(crate) mod pool;
mod slot;
pub(crate) mod target;
pub(crate) mod unary;
pub(crate) mod up;
