//! STUB until the signature floor lands.
use std::sync::Arc;

use crate::proto::tensorflow::serving::{GetModelMetadataResponse, SignatureDefMap};

#[derive(Debug, PartialEq)]
pub struct Signature {
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Signatures(Vec<Arc<Signature>>);

#[derive(Debug, thiserror::Error)]
#[error("expected signature definitions, found something else")]
pub struct MetadataError;

impl Signatures {
    pub fn from_metadata(response: &GetModelMetadataResponse) -> Result<Self, MetadataError> {
        use prost::Message as _;
        let any = response.metadata.get("signature_def").ok_or(MetadataError)?;
        let map = SignatureDefMap::decode(any.value.as_slice()).map_err(|_| MetadataError)?;
        Ok(Self(map.signature_def.into_keys().map(|name| Arc::new(Signature { name })).collect()))
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Signature>> {
        self.0.iter().find(|signature| signature.name == name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|signature| signature.name.as_str())
    }
}
