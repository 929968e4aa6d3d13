//! Reads signatures from a GetModelMetadata response, which has a `SignatureDefMap` in an `Any`.
use std::collections::HashMap;

use prost::Message as _;

use super::{Signature, Signatures, TensorInfo};
use crate::proto::tensorflow::serving::{GetModelMetadataResponse, SignatureDefMap};
use crate::proto::tensorflow::tensor_info::Encoding;
use crate::proto::tensorflow::{SignatureDef, TensorInfo as ProtoInfo, TensorProto, TensorShapeProto};
use crate::tensor::{DataType, PartialShape, Shape};

/// The only metadata field that TF Serving supports (`get_model_metadata_impl.cc`).
pub const METADATA_FIELD: &str = "signature_def";
const MESSAGE: &str = "tensorflow.serving.SignatureDefMap";

/// Why a response has no signatures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    #[error("expected metadata `signature_def`, got {found:?}")]
    Missing { found: Vec<String> },
    #[error("expected a {MESSAGE} in metadata `signature_def`, got `{found}`")]
    Type { found: String },
    #[error("metadata `signature_def` cannot be decoded: {0}")]
    Decode(#[from] prost::DecodeError),
}

impl Signatures {
    /// The signatures in a response, and the version that they belong to.
    ///
    /// # Errors
    /// If the response has no valid `SignatureDefMap`.
    pub fn from_metadata(response: &GetModelMetadataResponse) -> Result<(Self, Option<i64>), MetadataError> {
        use crate::proto::tensorflow::serving::model_spec::VersionChoice;
        let Some(any) = response.metadata.get(METADATA_FIELD) else {
            return Err(MetadataError::Missing { found: response.metadata.keys().cloned().collect() });
        };
        if any.type_url.rsplit('/').next() != Some(MESSAGE) {
            return Err(MetadataError::Type { found: any.type_url.clone() });
        }
        let map = SignatureDefMap::decode(any.value.as_ref())?;
        let version = match response.model_spec.as_ref().and_then(|spec| spec.version_choice.as_ref()) {
            Some(VersionChoice::Version(version)) => Some(*version),
            Some(VersionChoice::VersionLabel(_)) | None => None,
        };
        Ok((map.into(), version))
    }
}

impl From<SignatureDefMap> for Signatures {
    fn from(map: SignatureDefMap) -> Self {
        map.signature_def.into_iter().map(|(name, def)| signature(name, def)).collect()
    }
}

fn signature(name: String, def: SignatureDef) -> Signature {
    let none = HashMap::new();
    Signature {
        name,
        inputs: def.inputs.into_iter().map(|(alias, info)| tensor_info(alias, info, &def.defaults)).collect(),
        outputs: def.outputs.into_iter().map(|(alias, info)| tensor_info(alias, info, &none)).collect(),
        method_name: def.method_name,
    }
}

fn tensor_info(alias: String, info: ProtoInfo, defaults: &HashMap<String, TensorProto>) -> TensorInfo {
    let (tensor_name, shape) = match info.encoding {
        // Without a shape in `TensorInfo` the rank is unknown, so such an input is never changed.
        Some(Encoding::Name(name)) => {
            (name, info.tensor_shape.map_or(PartialShape::UnknownRank, partial_shape))
        }
        Some(Encoding::CooSparse(_) | Encoding::CompositeTensor(_)) | None => {
            (String::new(), PartialShape::UnknownRank)
        }
    };
    let has_default = defaults.contains_key(&alias);
    TensorInfo { alias, tensor_name, dtype: DataType::from_number(info.dtype), shape, has_default }
}

fn partial_shape(shape: TensorShapeProto) -> PartialShape {
    if shape.unknown_rank {
        return PartialShape::UnknownRank;
    }
    PartialShape::Known(shape.dim.into_iter().map(|dim| dim.size.max(-1)).collect::<Shape>())
}
