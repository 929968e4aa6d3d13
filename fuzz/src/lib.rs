//! What the fuzz targets do with their bytes; the integration tests include this file and replay
//! the committed corpus through it.
//!
//! The first byte of `plan` and `apply` chooses: even, the rest is a request as it is; odd, the
//! rest is what [`generate`] builds a signature, a policy and a request from.
pub mod apply;
pub mod check;
pub mod choices;
pub mod encode;
pub mod generate;
pub mod metadata;
pub mod plan;
pub mod scan;
pub mod world;

pub use apply::apply;
pub use metadata::metadata;
pub use plan::plan;
pub use scan::scan;

use bytes::Bytes;
use tfs_sidecar::wire::Rope;

/// The bytes as chunks of this size.
pub fn cut(bytes: &[u8], size: usize) -> Rope {
    bytes.chunks(size.max(1)).map(Bytes::copy_from_slice).collect()
}
