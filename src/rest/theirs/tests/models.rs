//! The recorded REST requests, and the signatures of the models that they were sent to.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use serde_json::Value;

use crate::proto::tensorflow::MetaGraphDef;
use crate::rest::json::{Event, Walk};
use crate::signature::{Signature, Signatures, TensorInfo};
use crate::tensor::{DataType, PartialShape};

const GOLDEN: &str = include_str!("../../../../tests/fixtures/golden/tfs_rest_golden.jsonl");

/// A recorded request.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) model: String,
    /// What follows the colon in the path.
    pub(super) method: String,
    pub(super) body: Vec<u8>,
    pub(super) status: Option<u64>,
    /// The texts of the errors that were answered, one unless they differ between processes.
    pub(super) errors: Vec<Vec<u8>>,
    /// The message that the JSON layer passed on.
    pub(super) message: Option<Vec<u8>>,
}

/// All requests to `predict`, `classify` and `regress`, and the signatures by model.
#[derive(Debug)]
pub(super) struct Golden {
    pub(super) records: Vec<Exchange>,
    pub(super) models: BTreeMap<String, Signatures>,
}

pub(super) static ALL: LazyLock<Golden> = LazyLock::new(|| {
    let mut golden = Golden { records: Vec::new(), models: fixture_models() };
    for line in GOLDEN.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["kind"] == "model" {
            for (path, file) in line["files"].as_object().unwrap() {
                if path.ends_with("saved_model.pb") {
                    let model = path.split('/').next().unwrap();
                    golden.models.insert(model.to_owned(), signatures(&bytes(file)));
                }
            }
        } else if let Some(record) = record(&line) {
            golden.records.push(record);
        }
    }
    golden
});

fn bytes(base64: &Value) -> Vec<u8> {
    STANDARD.decode(base64.as_str().unwrap()).unwrap()
}

fn record(line: &Value) -> Option<Exchange> {
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let path = text("path");
    let (model, method) = path.strip_prefix("/v1/models/")?.split_once(':')?;
    let body = if let Some(parts) = line["body_gen"].as_array() {
        let part = |part: &Value| part[0].as_str().unwrap().repeat(part[1].as_u64().unwrap() as usize);
        parts.iter().map(part).collect::<String>().into_bytes()
    } else if line["body_b64"].is_string() {
        bytes(&line["body_b64"])
    } else {
        text("body").into_bytes()
    };
    let mut errors: Vec<Vec<u8>> = line["responses"].as_array()?.iter().filter_map(error).collect();
    for seen in line["seen"].as_array().into_iter().flatten() {
        errors.extend(seen.as_array().into_iter().flatten().filter_map(error));
    }
    let request = &line["grpc"]["request_b64"];
    Some(Exchange {
        id: text("id"),
        kind: text("kind"),
        model: model.split('/').next().unwrap().to_owned(),
        method: method.to_owned(),
        body,
        status: line["responses"][0]["status"].as_u64(),
        errors,
        message: request.is_string().then(|| bytes(request)),
    })
}

/// The text of the error in a response.
fn error(response: &Value) -> Option<Vec<u8>> {
    let body = match response["body"].as_str() {
        Some(body) => body.as_bytes().to_vec(),
        None => bytes(response.get("body_b64")?),
    };
    let mut walk = Walk::at(&body, 0);
    let (Event::StartObject, Event::Key(key), Event::String(text)) = (walk.step(), walk.step(), walk.step())
    else {
        return None;
    };
    (key.raw() == b"error").then(|| text.unescaped().into_owned())
}

/// The signatures of the highest version of each model among the fixtures.
fn fixture_models() -> BTreeMap<String, Signatures> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let entries = |path: &Path| -> Vec<_> {
        let mut paths: Vec<_> = path.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let models = entries(&fixtures).into_iter().filter(|path| path.is_dir());
    models
        .map(|model| {
            let version = entries(&model).pop().unwrap();
            let file = std::fs::read(version.join("saved_model.pb")).unwrap();
            (model.file_name().unwrap().to_str().unwrap().to_owned(), signatures(&file))
        })
        .collect()
}

/// The signatures in a `SavedModel`, of which field 2 has graphs.
fn signatures(saved_model: &[u8]) -> Signatures {
    let mut rest = saved_model;
    let mut found = Vec::new();
    while let Some((tag, after)) = varint(rest) {
        let (value, after) = varint(after).unwrap();
        rest = after;
        if tag == 2 << 3 | 2 {
            let (graph, after) = rest.split_at(value as usize);
            rest = after;
            let graph = MetaGraphDef::decode(graph).unwrap();
            found.extend(graph.signature_def);
        }
    }
    let info = |(alias, info): (String, crate::proto::tensorflow::TensorInfo)| TensorInfo {
        alias,
        tensor_name: String::new(),
        dtype: DataType::from_number(info.dtype),
        shape: PartialShape::UnknownRank,
        has_default: false,
    };
    let signature = |(name, def): (String, crate::proto::tensorflow::SignatureDef)| Signature {
        name,
        inputs: def.inputs.into_iter().map(info).collect(),
        outputs: def.outputs.into_iter().map(info).collect(),
        method_name: def.method_name,
    };
    found.into_iter().map(signature).collect()
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let (varint, rest) = bytes.split_at(length);
    let value = varint.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
    Some((value, rest))
}
