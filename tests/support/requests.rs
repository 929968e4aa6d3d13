//! Builds requests: tensors, model specs, whole messages, and raw protobuf fields.
use std::collections::HashMap;

use prost::Message as _;
use prost::bytes::Bytes;
use tfs_sidecar::proto::tensorflow::serving::{
    GetModelMetadataRequest, GetModelStatusRequest, ModelSpec, PredictRequest, PredictResponse, model_spec,
};
use tfs_sidecar::proto::tensorflow::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};

pub const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";
pub const CLASSIFY: &str = "/tensorflow.serving.PredictionService/Classify";
pub const REGRESS: &str = "/tensorflow.serving.PredictionService/Regress";
pub const MULTI_INFERENCE: &str = "/tensorflow.serving.PredictionService/MultiInference";
pub const METADATA: &str = "/tensorflow.serving.PredictionService/GetModelMetadata";
pub const STATUS: &str = "/tensorflow.serving.ModelService/GetModelStatus";
pub const RELOAD: &str = "/tensorflow.serving.ModelService/HandleReloadConfigRequest";

pub const FLOAT: i32 = 1;
pub const DOUBLE: i32 = 2;
pub const INT32: i32 = 3;
pub const UINT8: i32 = 4;
pub const STRING: i32 = 7;
pub const INT64: i32 = 9;

/// The name of a dtype in TensorFlow's error texts.
pub fn dtype_name(number: i32) -> String {
    const NAMES: [&str; 24] = [
        "INVALID",
        "float",
        "double",
        "int32",
        "uint8",
        "int16",
        "int8",
        "string",
        "complex64",
        "int64",
        "bool",
        "qint8",
        "quint8",
        "qint32",
        "bfloat16",
        "qint16",
        "quint16",
        "uint16",
        "complex128",
        "half",
        "resource",
        "variant",
        "uint32",
        "uint64",
    ];
    usize::try_from(number)
        .ok()
        .and_then(|at| NAMES.get(at))
        .map_or_else(|| number.to_string(), |name| (*name).into())
}

pub fn shape(dims: &[i64]) -> TensorShapeProto {
    let dim = dims.iter().map(|&size| Dim { size, name: String::new() }).collect();
    TensorShapeProto { dim, unknown_rank: false }
}

/// A tensor with these bytes as its `tensor_content`.
pub fn content(dtype: i32, dims: &[i64], bytes: impl Into<Bytes>) -> TensorProto {
    TensorProto { dtype, tensor_shape: Some(shape(dims)), tensor_content: bytes.into(), ..Default::default() }
}

/// float32 values in `tensor_content`, as NumPy clients send them.
pub fn floats(dims: &[i64], values: &[f32]) -> TensorProto {
    content(FLOAT, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
}

/// float32 values in `float_val`.
pub fn float_list(dims: &[i64], values: &[f32]) -> TensorProto {
    let tensor_shape = Some(shape(dims));
    TensorProto { dtype: FLOAT, tensor_shape, float_val: values.to_vec(), ..Default::default() }
}

/// The same values as float64 in `tensor_content`, as NumPy clients send them by default.
pub fn doubles(dims: &[i64], values: &[f32]) -> TensorProto {
    content(
        DOUBLE,
        dims,
        values.iter().flat_map(|&value| f64::from(value).to_le_bytes()).collect::<Vec<u8>>(),
    )
}

pub fn int64s(dims: &[i64], values: &[i64]) -> TensorProto {
    content(INT64, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
}

pub fn int32s(dims: &[i64], values: &[i32]) -> TensorProto {
    content(INT32, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
}

pub fn strings(dims: &[i64], values: &[&[u8]]) -> TensorProto {
    let string_val = values.iter().map(|value| Bytes::copy_from_slice(value)).collect();
    TensorProto { dtype: STRING, tensor_shape: Some(shape(dims)), string_val, ..Default::default() }
}

/// A model spec without version, label or signature.
pub fn spec(model: &str) -> ModelSpec {
    ModelSpec { name: model.to_owned(), ..Default::default() }
}

/// Builds a PredictRequest.
#[derive(Clone, Debug, Default)]
pub struct Predict {
    pub message: PredictRequest,
}

impl Predict {
    pub fn new(model: &str) -> Self {
        Self { message: PredictRequest { model_spec: Some(spec(model)), ..Default::default() } }
    }

    pub fn input(mut self, name: &str, tensor: TensorProto) -> Self {
        self.message.inputs.insert(name.to_owned(), tensor);
        self
    }

    pub fn signature(self, name: &str) -> Self {
        self.spec(|spec| name.clone_into(&mut spec.signature_name))
    }

    pub fn version(self, version: i64) -> Self {
        self.spec(|spec| spec.version_choice = Some(model_spec::VersionChoice::Version(version)))
    }

    pub fn label(self, label: &str) -> Self {
        self.spec(|spec| {
            spec.version_choice = Some(model_spec::VersionChoice::VersionLabel(label.to_owned()));
        })
    }

    pub fn output(mut self, name: &str) -> Self {
        self.message.output_filter.push(name.to_owned());
        self
    }

    pub fn bytes(&self) -> Bytes {
        self.message.encode_to_vec().into()
    }

    fn spec(mut self, change: impl FnOnce(&mut ModelSpec)) -> Self {
        change(self.message.model_spec.get_or_insert_default());
        self
    }
}

pub fn metadata_request(model: &str) -> Bytes {
    let metadata_field = vec!["signature_def".to_owned()];
    GetModelMetadataRequest { model_spec: Some(spec(model)), metadata_field }.encode_to_vec().into()
}

pub fn status_request(model: &str) -> Bytes {
    GetModelStatusRequest { model_spec: Some(spec(model)) }.encode_to_vec().into()
}

/// The outputs of a PredictResponse.
pub fn outputs(response: &[u8]) -> HashMap<String, TensorProto> {
    PredictResponse::decode(response).expect("the answer is a PredictResponse").outputs
}

// Raw wire format, for what prost cannot write: unknown fields, odd encodings, hostile lengths.

pub fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A length-delimited field.
pub fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 12);
    varint(u64::from(number) << 3 | 2, &mut out);
    varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

/// A varint field.
pub fn number_field(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(u64::from(number) << 3, &mut out);
    varint(value, &mut out);
    out
}
