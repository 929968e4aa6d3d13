//! Reads signatures from a GetModelMetadata response, which has a `SignatureDefMap` in an `Any`.
use std::collections::HashMap;

use prost::Message as _;
use prost::encoding::{DecodeContext, decode_key, skip_field};

use super::{Signature, Signatures, TensorInfo};
use crate::proto::tensorflow::serving::{GetModelMetadataResponse, SignatureDefMap};
use crate::proto::tensorflow::tensor_info::Encoding;
use crate::proto::tensorflow::{SignatureDef, TensorInfo as ProtoInfo, TensorProto, TensorShapeProto};
use crate::tensor::{DataType, PartialShape, Shape};

/// The only metadata field that TF Serving supports (`get_model_metadata_impl.cc`).
pub const METADATA_FIELD: &str = "signature_def";
const MESSAGE: &str = "tensorflow.serving.SignatureDefMap";

/// Signatures of one version: far more than any model has, so that the metadata of a broken one
/// does not fill the memory.
const MAX_SIGNATURES: usize = 128 << 10;
/// Inputs and outputs of all signatures of one version.
const MAX_TENSORS: usize = 256 << 10;

/// Why a response has no signatures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    #[error("expected metadata `signature_def`, got {found:?}")]
    Missing { found: Vec<String> },
    #[error("expected a {MESSAGE} in metadata `signature_def`, got `{found}`")]
    Type { found: String },
    #[error("metadata `signature_def` cannot be decoded: {0}")]
    Decode(#[from] prost::DecodeError),
    #[error("the model has too many signatures (limit {MAX_SIGNATURES})")]
    Signatures,
    #[error("the model's signatures have too many inputs and outputs (limit {MAX_TENSORS})")]
    Tensors,
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
        let signatures = decode(&any.value)?;
        let version = match response.model_spec.as_ref().and_then(|spec| spec.version_choice.as_ref()) {
            Some(VersionChoice::Version(version)) => Some(*version),
            Some(VersionChoice::VersionLabel(_)) | None => None,
        };
        Ok((signatures, version))
    }
}

impl Signatures {
    /// The signatures of a serialized `SignatureDefMap`.
    ///
    /// # Errors
    /// If the bytes are no such map, or it is too large.
    pub fn from_map(map: &[u8]) -> Result<Self, MetadataError> {
        decode(map)
    }
}

/// The signatures of a serialized `SignatureDefMap`, decoded one by one: decoded messages take
/// twenty times as much memory as their bytes.
fn decode(map: &[u8]) -> Result<Signatures, MetadataError> {
    let (mut signatures, mut tensors) = (Vec::new(), 0);
    let mut rest = map;
    while !rest.is_empty() {
        let field = rest;
        let (tag, wire_type) = decode_key(&mut rest)?;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
        let field = field.get(..field.len() - rest.len()).unwrap_or_default();
        let entry = SignatureDefMap::decode(field)?.signature_def.into_iter();
        signatures.extend(entry.map(|(name, def)| signature(name, def)));
        if let Some(last) = signatures.last() {
            tensors += last.inputs.len() + last.outputs.len();
        }
        if signatures.len() > MAX_SIGNATURES {
            return Err(MetadataError::Signatures);
        }
        if tensors > MAX_TENSORS {
            return Err(MetadataError::Tensors);
        }
    }
    Ok(signatures.into_iter().collect())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tensorflow::serving::ModelSpec;

    fn response(signatures: usize, inputs: usize) -> GetModelMetadataResponse {
        let inputs = (0..inputs).map(|number| (number.to_string(), ProtoInfo::default())).collect();
        let def = SignatureDef { inputs, ..SignatureDef::default() };
        let signature_def = (0..signatures).map(|number| (format!("s{number}"), def.clone())).collect();
        let value = SignatureDefMap { signature_def }.encode_to_vec();
        let any = prost_types::Any { type_url: format!("type.googleapis.com/{MESSAGE}"), value };
        GetModelMetadataResponse {
            model_spec: Some(ModelSpec::default()),
            metadata: [(METADATA_FIELD.to_owned(), any)].into(),
        }
    }

    fn read(signatures: usize, inputs: usize) -> Result<usize, MetadataError> {
        Ok(Signatures::from_metadata(&response(signatures, inputs))?.0.iter().count())
    }

    #[test]
    fn very_many_signatures_are_read_but_not_any_number() {
        assert_eq!(read(3, 2), Ok(3));
        assert_eq!(read(20_000, 1), Ok(20_000));
        assert_eq!(read(MAX_SIGNATURES + 1, 0), Err(MetadataError::Signatures));
        assert_eq!(read(3, MAX_TENSORS / 3 + 1), Err(MetadataError::Tensors));
    }

    #[test]
    fn metadata_that_is_cut_off_is_an_error() {
        let mut response = response(1, 1);
        response.metadata.get_mut(METADATA_FIELD).unwrap().value.pop();
        assert!(matches!(Signatures::from_metadata(&response), Err(MetadataError::Decode(_))));
    }
}
