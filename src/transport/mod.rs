//! Connections, for clients and upstream alike: sockets, TLS, HTTP/2 settings, write coalescing,
//! gRPC framing and message bodies.
pub(crate) mod body;
pub(crate) mod coalesce;
pub(crate) mod deadline;
pub(crate) mod frames;
pub mod framing;
pub(crate) mod http2;
pub(crate) mod peer;
pub(crate) mod socket;
#[cfg(feature = "tls")]
pub(crate) mod tls;
