//! Floor 4: TF Serving as seen from here: connections to it, and what it says of its models.
pub mod ask;
pub mod backoff;
pub mod catalog;
pub mod dial;
pub mod framing;
pub mod gather;
pub mod http2;
pub mod io;
pub mod places;
pub mod pool;
mod question;
pub mod readiness;
pub mod refresh;
#[cfg(feature = "tls")]
pub mod tls;
pub mod unary;
