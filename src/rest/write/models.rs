//! Model status and metadata (`http_rest_api_handler.cc`).
use std::collections::BTreeMap;

use prost::Message as _;

use super::digits::ROOM;
use super::proto::Json;
use super::{Refusal, double, float};
use crate::proto::tensorflow::error::Code;
use crate::proto::tensorflow::serving::model_spec::VersionChoice;
use crate::proto::tensorflow::serving::model_version_status::State;
use crate::proto::tensorflow::serving::{
    GetModelMetadataResponse, GetModelStatusResponse, ModelSpec, SignatureDefMap,
};
use crate::proto::tensorflow::tensor_info::Encoding;
use crate::proto::tensorflow::{SignatureDef, TensorInfo, TensorProto, TensorShapeProto};
use crate::signature::metadata::METADATA_FIELD;
use crate::tensor::DataType;
use crate::wire::Rope;

type Written = Result<(), Refusal>;

/// Components of composite tensors in components are left out.
const MAX_COMPONENT_DEPTH: usize = 4;

/// Writes a `GetModelStatusResponse`.
///
/// # Errors
/// If the message is not valid, or the text would be longer than `max_bytes`.
pub fn status(message: &Rope, max_bytes: usize) -> Result<Vec<u8>, Refusal> {
    let response = GetModelStatusResponse::decode(message.to_bytes())
        .map_err(|error| Refusal::unreadable(&error.to_string()))?;
    let mut json = Json::new(max_bytes);
    json.open(b"{")?;
    json.key("model_version_status")?;
    json.open(b"[")?;
    for version in &response.model_version_status {
        json.item()?;
        json.open(b"{")?;
        json.key("version")?;
        json.string(&version.version.to_string())?;
        json.key("state")?;
        let state = State::try_from(version.state).ok();
        json.name(state.as_ref().map(State::as_str_name), version.state)?;
        if let Some(status) = &version.status {
            json.key("status")?;
            json.open(b"{")?;
            json.key("error_code")?;
            let code = Code::try_from(status.error_code).ok();
            json.name(code.as_ref().map(Code::as_str_name), status.error_code)?;
            json.key("error_message")?;
            json.string(&status.error_message)?;
            json.close(b"}")?;
        }
        json.close(b"}")?;
    }
    json.close(b"]")?;
    json.close(b"}")?;
    json.literal("\n")?;
    json.out.finish()
}

/// Writes a `GetModelMetadataResponse`. Signatures and tensors are in the order of their names; TF
/// Serving's order is random.
///
/// # Errors
/// If the message is not valid, or the text would be longer than `max_bytes`.
pub fn metadata(message: &Rope, max_bytes: usize) -> Result<Vec<u8>, Refusal> {
    let unreadable = |error: prost::DecodeError| Refusal::unreadable(&error.to_string());
    let response = GetModelMetadataResponse::decode(message.to_bytes()).map_err(unreadable)?;
    let mut json = Json::new(max_bytes);
    json.literal("{\n\"model_spec\":")?;
    model_spec(&mut json, &response.model_spec.unwrap_or_default())?;
    json.literal("\n,\n\"metadata\": {")?;
    if let Some(any) = response.metadata.get(METADATA_FIELD) {
        let map = SignatureDefMap::decode(any.value.as_slice()).map_err(unreadable)?;
        json.literal("\"signature_def\": ")?;
        json.open(b"{")?;
        json.key("signature_def")?;
        json.open(b"{")?;
        for (name, def) in sorted(&map.signature_def) {
            json.key(name)?;
            signature(&mut json, def)?;
        }
        json.close(b"}")?;
        json.close(b"}")?;
        json.literal("\n")?;
    }
    json.literal("}\n}\n")?;
    json.out.finish()
}

fn sorted<T>(map: &std::collections::HashMap<String, T>) -> BTreeMap<&String, &T> {
    map.iter().collect()
}

fn model_spec(json: &mut Json, spec: &ModelSpec) -> Written {
    json.open(b"{")?;
    json.key("name")?;
    json.string(&spec.name)?;
    match &spec.version_choice {
        Some(VersionChoice::Version(version)) => {
            json.key("version")?;
            json.string(&version.to_string())?;
        }
        Some(VersionChoice::VersionLabel(label)) => {
            json.key("version_label")?;
            json.string(label)?;
        }
        None => {}
    }
    json.key("signature_name")?;
    json.string(&spec.signature_name)?;
    json.close(b"}")
}

fn signature(json: &mut Json, def: &SignatureDef) -> Written {
    json.open(b"{")?;
    for (key, tensors) in [("inputs", &def.inputs), ("outputs", &def.outputs)] {
        json.key(key)?;
        json.open(b"{")?;
        for (alias, info) in sorted(tensors) {
            json.key(alias)?;
            tensor_info(json, info, 0)?;
        }
        json.close(b"}")?;
    }
    json.key("method_name")?;
    json.string(&def.method_name)?;
    json.key("defaults")?;
    json.open(b"{")?;
    for (alias, tensor) in sorted(&def.defaults) {
        json.key(alias)?;
        default(json, tensor)?;
    }
    json.close(b"}")?;
    json.close(b"}")
}

fn tensor_info(json: &mut Json, info: &TensorInfo, depth: usize) -> Written {
    json.open(b"{")?;
    match &info.encoding {
        Some(Encoding::Name(name)) => {
            json.key("name")?;
            json.string(name)?;
        }
        Some(Encoding::CooSparse(sparse)) => {
            json.key("coo_sparse")?;
            json.open(b"{")?;
            for (key, name) in [
                ("values_tensor_name", &sparse.values_tensor_name),
                ("indices_tensor_name", &sparse.indices_tensor_name),
                ("dense_shape_tensor_name", &sparse.dense_shape_tensor_name),
            ] {
                json.key(key)?;
                json.string(name)?;
            }
            json.close(b"}")?;
        }
        Some(Encoding::CompositeTensor(composite)) => {
            json.key("composite_tensor")?;
            json.open(b"{")?;
            json.key("components")?;
            json.open(b"[")?;
            for component in composite.components.iter().filter(|_| depth < MAX_COMPONENT_DEPTH) {
                json.item()?;
                tensor_info(json, component, depth + 1)?;
            }
            json.close(b"]")?;
            json.close(b"}")?;
        }
        None => {}
    }
    dtype_and_shape(json, info.dtype, info.tensor_shape.as_ref())?;
    json.close(b"}")
}

fn dtype_and_shape(json: &mut Json, number: i32, shape: Option<&TensorShapeProto>) -> Written {
    json.key("dtype")?;
    let name = DataType::from_number(number).enum_name();
    json.name(name.starts_with("DT_").then_some(&*name), number)?;
    let Some(shape) = shape else { return Ok(()) };
    json.key("tensor_shape")?;
    json.open(b"{")?;
    json.key("dim")?;
    json.open(b"[")?;
    for dim in &shape.dim {
        json.item()?;
        json.open(b"{")?;
        json.key("size")?;
        json.string(&dim.size.to_string())?;
        json.key("name")?;
        json.string(&dim.name)?;
        json.close(b"}")?;
    }
    json.close(b"]")?;
    json.key("unknown_rank")?;
    json.literal(if shape.unknown_rank { "true" } else { "false" })?;
    json.close(b"}")
}

/// A `TensorProto`. Resources and variants, which cannot be defaults, are left out.
fn default(json: &mut Json, tensor: &TensorProto) -> Written {
    json.open(b"{")?;
    dtype_and_shape(json, tensor.dtype, tensor.tensor_shape.as_ref())?;
    json.key("version_number")?;
    json.literal(&tensor.version_number.to_string())?;
    json.key("tensor_content")?;
    json.base64(&tensor.tensor_content)?;
    let number = |json: &mut Json, value: &f32| float(json, *value);
    let double = |json: &mut Json, value: &f64| wide(json, *value);
    let plain = |json: &mut Json, value: &dyn ToString| json.literal(&value.to_string());
    let quoted = |json: &mut Json, value: &dyn ToString| json.string(&value.to_string());
    list(json, "float_val", &tensor.float_val, number)?;
    list(json, "double_val", &tensor.double_val, double)?;
    list(json, "int_val", &tensor.int_val, |json, value| plain(json, value))?;
    list(json, "string_val", &tensor.string_val, |json, bytes| json.base64(bytes))?;
    list(json, "scomplex_val", &tensor.scomplex_val, number)?;
    list(json, "int64_val", &tensor.int64_val, |json, value| quoted(json, value))?;
    list(json, "bool_val", &tensor.bool_val, |json, value| plain(json, value))?;
    list(json, "dcomplex_val", &tensor.dcomplex_val, double)?;
    list(json, "half_val", &tensor.half_val, |json, value| plain(json, value))?;
    list(json, "resource_handle_val", &[(); 0], |_, ()| Ok(()))?;
    list(json, "variant_val", &[(); 0], |_, ()| Ok(()))?;
    list(json, "uint32_val", &tensor.uint32_val, |json, value| plain(json, value))?;
    list(json, "uint64_val", &tensor.uint64_val, |json, value| quoted(json, value))?;
    json.key("float8_val")?;
    json.base64(&tensor.float8_val)?;
    json.close(b"}")
}

fn list<T>(json: &mut Json, key: &str, values: &[T], write: impl Fn(&mut Json, &T) -> Written) -> Written {
    json.key(key)?;
    json.open(b"[")?;
    for value in values {
        json.item()?;
        write(json, value)?;
    }
    json.close(b"]")
}

fn float(json: &mut Json, value: f32) -> Written {
    let mut text = [0; ROOM];
    let length = float::write(value, &mut text);
    printed(json, text.get(..length).unwrap_or_default(), value.is_finite())
}

fn wide(json: &mut Json, value: f64) -> Written {
    let mut text = [0; ROOM];
    let length = double::write(value, &mut text);
    printed(json, text.get(..length).unwrap_or_default(), value.is_finite())
}

/// A number as protobuf prints it: without `.0`, and as a string if it is not finite.
fn printed(json: &mut Json, text: &[u8], finite: bool) -> Written {
    let text = std::str::from_utf8(text).unwrap_or_default();
    if finite { json.literal(text.strip_suffix(".0").unwrap_or(text)) } else { json.string(text) }
}
