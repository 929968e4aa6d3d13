//! The bodies of the fuzz targets. The integration tests include this file and replay the committed
//! corpus.
//!
//! In `plan`, `apply` and behind the cuts of `scan_cuts`, the first byte decides: if it is even,
//! the rest is an encoded request; if it is odd, [`generate`] builds a signature, a policy and a
//! request from the rest.
pub mod apply;
pub mod check;
pub mod choices;
pub mod datasets;
pub mod encode;
pub mod framing;
pub mod generate;
pub mod image_door;
pub mod metadata;
pub mod plan;
pub mod profile_file;
pub mod rest_request;
pub mod scan;
pub mod scan_cuts;
pub mod world;

pub use apply::apply;
pub use datasets::{npy, tfrecord};
pub use framing::framing;
pub use image_door::image_door;
pub use metadata::metadata;
pub use plan::plan;
pub use profile_file::profile_file;
pub use rest_request::rest_request;
pub use scan::scan;
pub use scan_cuts::scan_cuts;

use bytes::Bytes;
use tfs_sidecar::wire::Rope;

/// The bytes in chunks of this size.
pub fn cut(bytes: &[u8], size: usize) -> Rope {
    bytes.chunks(size.max(1)).map(Bytes::copy_from_slice).collect()
}
