//! The description of the API for the models that are served.
use bytes::Bytes;

use crate::pipeline::Shard;

pub(super) fn document(_shard: &Shard) -> Bytes {
    Bytes::from_static(b"{}")
}
