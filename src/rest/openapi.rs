//! An OpenAPI 3.1 document of the models that are served, made from their signatures.
use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::signature::{DEFAULT_SIGNATURE, Signature, Signatures, TensorInfo};
use crate::tensor::{Class, DataType, PartialShape};

/// One version of a model.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    pub name: &'a str,
    pub version: i64,
    pub signatures: &'a Signatures,
}

/// Examples with more values are left out.
const MAX_EXAMPLE: i64 = 4096;

/// What need not be escaped in a part of a path.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const PREDICT: &str = "tensorflow/serving/predict";
const CLASSIFY: &str = "tensorflow/serving/classify";
const REGRESS: &str = "tensorflow/serving/regress";

/// The document as JSON. The highest version of a model has the paths without a version; others
/// have paths with theirs.
pub fn openapi(models: &[Model<'_>]) -> String {
    let mut highest: BTreeMap<&str, i64> = BTreeMap::new();
    for model in models {
        let version = highest.entry(model.name).or_insert(model.version);
        *version = model.version.max(*version);
    }
    let mut paths = Map::new();
    for model in models {
        let name = utf8_percent_encode(model.name, UNRESERVED);
        let base = match highest.get(model.name) {
            Some(version) if *version == model.version => format!("/v1/models/{name}"),
            _ => format!("/v1/models/{name}/versions/{}", model.version),
        };
        add_paths(&mut paths, &base, model);
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "TensorFlow Serving REST API",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "paths": paths,
        "components": { "schemas": { "Base64": base64(), "Error": error(), "Results": results() } },
    });
    format!("{document:#}")
}

fn add_paths(paths: &mut Map<String, Value>, base: &str, model: &Model<'_>) {
    let about = format!("{}, version {}", model.name, model.version);
    let signatures = || model.signatures.servable();
    let callable: Vec<&Signature> = signatures()
        .map(|signature| &**signature)
        .filter(|signature| [PREDICT, CLASSIFY, REGRESS].contains(&signature.method_name.as_str()))
        .filter(|signature| !signature.inputs.is_empty())
        .collect();
    let get = |summary: &str| {
        let ok =
            json!({"description": "OK", "content": {"application/json": {"schema": {"type": "object"}}}});
        json!({"get": {"summary": summary, "tags": [model.name], "responses": responses(ok)}})
    };
    paths.insert(base.to_owned(), get(&format!("Versions and their states ({about})")));
    paths.insert(format!("{base}/metadata"), get(&format!("Signatures ({about})")));
    if !callable.is_empty() {
        let summary = format!("Run a signature ({about})");
        paths.insert(format!("{base}:predict"), json!({"post": predict(&callable, &summary, model.name)}));
    }
    for (verb, method) in [("classify", CLASSIFY), ("regress", REGRESS)] {
        let names: Vec<&str> = callable
            .iter()
            .filter(|signature| signature.method_name == method)
            .map(|signature| signature.name.as_str())
            .collect();
        if !names.is_empty() {
            let summary = format!("Run a signature on tf.Examples ({about})");
            paths
                .insert(format!("{base}:{verb}"), json!({"post": on_examples(&names, &summary, model.name)}));
        }
    }
}

fn predict(signatures: &[&Signature], summary: &str, tag: &str) -> Value {
    let (mut requests, mut answers, mut examples) = (Vec::new(), Vec::new(), Map::new());
    for signature in signatures {
        for form in [Form::Row, Form::Column] {
            let Some(inputs) = values(&signature.inputs, form, Direction::Input) else { continue };
            requests.push(request(signature, form.request_key(), inputs));
            let name = format!("{}, {}", signature.name, form.request_key());
            if let Some(value) = example(signature, form) {
                examples.insert(name, json!({"value": value}));
            }
            if let Some(outputs) = values(&signature.outputs, form, Direction::Output) {
                let key = form.answer_key();
                answers.push(json!({"type": "object", "required": [key], "properties": {key: outputs}}));
            }
        }
    }
    let ok = json!({
        "description": "The outputs: rows for `instances`, columns for `inputs`",
        "content": {"application/json": {"schema": {"anyOf": answers}}},
    });
    let content = json!({"application/json": {"schema": {"anyOf": requests}, "examples": examples}});
    json!({
        "summary": summary,
        "tags": [tag],
        "requestBody": {"required": true, "content": content},
        "responses": responses(ok),
    })
}

fn request(signature: &Signature, key: &str, inputs: Value) -> Value {
    let mut required = vec![key];
    if signature.name != DEFAULT_SIGNATURE {
        required.push("signature_name");
    }
    let properties = json!({"signature_name": {"const": signature.name}, key: inputs});
    json!({"type": "object", "title": signature.name, "required": required, "properties": properties})
}

/// The two forms of a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Row,
    Column,
}

impl Form {
    const fn request_key(self) -> &'static str {
        match self {
            Self::Row => "instances",
            Self::Column => "inputs",
        }
    }

    const fn answer_key(self) -> &'static str {
        match self {
            Self::Row => "predictions",
            Self::Column => "outputs",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Input,
    Output,
}

/// The schema of all inputs or outputs. `None` if they cannot be rows, or JSON.
fn values(infos: &[TensorInfo], form: Form, direction: Direction) -> Option<Value> {
    if infos.is_empty() || infos.iter().any(|info| class(info.dtype) == Some(Class::Handle)) {
        return None;
    }
    let skip = usize::from(form == Form::Row);
    if infos.iter().any(|info| info.shape.rank().is_some_and(|rank| rank < skip)) {
        return None;
    }
    let schema = |info: &TensorInfo| {
        let leaf = leaf(info, direction);
        match &info.shape {
            // Anything: a value, or arrays of any depth.
            PartialShape::UnknownRank => json!({}),
            PartialShape::Known(dims) => nested(leaf, dims.get(skip..).unwrap_or_default()),
        }
    };
    let one = match infos {
        [only] => schema(only),
        several => {
            let properties: Map<String, Value> =
                several.iter().map(|info| (info.alias.clone(), schema(info))).collect();
            let required: Vec<&str> = several.iter().map(|info| info.alias.as_str()).collect();
            json!({"type": "object", "required": required, "properties": properties})
        }
    };
    let rows = infos.iter().filter_map(|info| info.shape.dims()?.first().copied()).find(|rows| *rows >= 0);
    Some(if form == Form::Row { array(one, rows.unwrap_or(-1), 1) } else { one })
}

/// Arrays of these sizes, the outermost first.
fn nested(leaf: Value, dims: &[i64]) -> Value {
    dims.iter().rev().fold(leaf, |inner, size| array(inner, *size, 0))
}

fn array(items: Value, size: i64, least: i64) -> Value {
    let mut schema = json!({"type": "array", "items": items});
    if size >= 0 {
        schema["minItems"] = size.into();
        schema["maxItems"] = size.into();
    } else if least > 0 {
        schema["minItems"] = least.into();
    }
    schema
}

fn class(dtype: DataType) -> Option<Class> {
    dtype.info().map(|info| info.class)
}

/// The schema of one value.
fn leaf(info: &TensorInfo, direction: Direction) -> Value {
    let title = info.dtype.name();
    let base64 = json!({"$ref": "#/components/schemas/Base64"});
    let bits = info.dtype.size().unwrap_or(8) as u32 * 8;
    match class(info.dtype) {
        Some(Class::Float) => json!({"type": "number", "title": title}),
        Some(Class::Bool) => json!({"type": "boolean"}),
        Some(Class::Complex) => array(json!({"type": "number", "title": title}), 2, 0),
        Some(Class::Signed) => {
            let limit = 1_i64 << (bits - 1).min(62);
            let (least, most) = if bits == 64 { (i64::MIN, i64::MAX) } else { (-limit, limit - 1) };
            json!({"type": "integer", "title": title, "minimum": least, "maximum": most})
        }
        Some(Class::Unsigned) => {
            let most = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
            json!({"type": "integer", "title": title, "minimum": 0, "maximum": most})
        }
        Some(Class::Quantized) => json!({"type": "integer", "title": title}),
        Some(Class::String) if direction == Direction::Input => {
            json!({"anyOf": [{"type": "string"}, base64]})
        }
        Some(Class::String) if info.alias.ends_with("_bytes") => base64,
        Some(Class::String) => json!({"type": "string"}),
        Some(Class::Handle) | None => json!({}),
    }
}

/// A body that conforms to the signature, with one row and 1 for every size that is not declared.
fn example(signature: &Signature, form: Form) -> Option<Value> {
    let skip = usize::from(form == Form::Row);
    let of = |info: &TensorInfo| {
        let dims: Vec<i64> = match info.shape.dims() {
            Some(dims) => dims.iter().map(|size| if *size < 0 { 1 } else { *size }).collect(),
            None => vec![1],
        };
        let elements = dims.iter().try_fold(1_i64, |all, size| all.checked_mul(*size))?;
        (elements <= MAX_EXAMPLE && dims.len() <= 32).then(|| {
            let dims = dims.get(skip..).unwrap_or_default();
            dims.iter()
                .rev()
                .fold(example_value(info.dtype), |inner, size| json!(vec![inner; *size as usize]))
        })
    };
    let one = match signature.inputs.as_slice() {
        [only] => of(only)?,
        several => {
            let all: Option<Map<String, Value>> =
                several.iter().map(|info| Some((info.alias.clone(), of(info)?))).collect();
            all?.into()
        }
    };
    let declared = signature.inputs.iter().filter_map(|info| info.shape.dims()?.first().copied());
    let rows = declared.filter(|rows| *rows >= 0).max().unwrap_or(1);
    let inputs = if form == Form::Row { json!(vec![one; usize::try_from(rows).ok()?]) } else { one };
    let mut body = json!({form.request_key(): inputs});
    if signature.name != DEFAULT_SIGNATURE {
        body["signature_name"] = signature.name.as_str().into();
    }
    Some(body)
}

fn example_value(dtype: DataType) -> Value {
    match class(dtype) {
        Some(Class::Float) => json!(0.5),
        Some(Class::Complex) => json!([0.5, 0.0]),
        Some(Class::Bool) => json!(true),
        Some(Class::String) => json!("text"),
        // 0 is in every range, and an index into any table.
        _ => json!(0),
    }
}

/// `:classify` and `:regress`. The names of the features are in the graph, not in the signature, so
/// there is no example.
fn on_examples(names: &[&str], summary: &str, tag: &str) -> Value {
    let value = json!({"type": ["number", "string", "boolean", "object"]});
    let feature = json!({"anyOf": [value, {"type": "array", "items": value}]});
    let example = json!({"type": "object", "additionalProperties": feature});
    let mut schema = json!({
        "type": "object",
        "required": ["examples"],
        "properties": {
            "signature_name": {"enum": names},
            "context": example,
            "examples": {"type": "array", "minItems": 1, "items": example},
        },
    });
    if !names.contains(&DEFAULT_SIGNATURE) {
        schema["required"] = json!(["examples", "signature_name"]);
    }
    let results = json!({"schema": {"$ref": "#/components/schemas/Results"}});
    let ok = json!({"description": "One result for each example", "content": {"application/json": results}});
    json!({
        "summary": summary,
        "tags": [tag],
        "requestBody": {"required": true, "content": {"application/json": {"schema": schema}}},
        "responses": responses(ok),
    })
}

fn responses(ok: Value) -> Value {
    let schema = json!({"$ref": "#/components/schemas/Error"});
    let error = json!({"description": "Error", "content": {"application/json": {"schema": schema}}});
    json!({"200": ok, "default": error})
}

fn base64() -> Value {
    json!({
        "type": "object",
        "description": "Bytes as base64",
        "required": ["b64"],
        "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
        "additionalProperties": false,
    })
}

fn results() -> Value {
    let class = json!({"type": "array", "description": "Label and score"});
    json!({
        "type": "object",
        "required": ["results"],
        "properties": {"results": {"type": "array", "items": {"anyOf": [
            {"type": "number"},
            {"type": "array", "items": class},
        ]}}},
    })
}

fn error() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let offset = json!({"type": "integer", "description": "The byte of the body where that is"});
    let detail = json!({
        "type": "object",
        "required": ["text"],
        "properties": {
            "reason": text("A reason code"),
            "input": text("The name of the input"),
            "pointer": text("A JSON pointer to the place in the body"),
            "offset": offset,
            "text": text("What is wrong"),
            "fix": text("What to do"),
        },
    });
    json!({
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}, "details": {"type": "array", "items": detail}},
    })
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
