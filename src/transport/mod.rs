//! Connections, for clients and upstream alike: sockets, TLS, HTTP/2 settings, write coalescing,
//! gRPC framing and message bodies.
pub mod body;
pub mod coalesce;
pub mod deadline;
pub mod framing;
pub mod http2;
pub mod socket;
#[cfg(feature = "tls")]
pub mod tls;
