//! The description of the API for the models that are served.
use bytes::Bytes;

use crate::pipeline::Shard;
use crate::rest::openapi::{Model, openapi};

/// An OpenAPI document.
pub(super) fn document(shard: &Shard) -> Bytes {
    let catalog = shard.catalog.snapshot();
    let models = catalog.iter().flat_map(|(name, entry)| {
        let versions = entry.versions.iter();
        versions.map(move |(version, model)| Model { name, version: *version, signatures: &model.signatures })
    });
    openapi(&models.collect::<Vec<_>>()).into()
}
