//! Answers as TensorFlow Serving does, given the models and the message: the same checks in the
//! same order with the same texts.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prost::Message as _;
use prost_types::Any;
use tfs_sidecar::proto::tensorflow::TensorProto;
use tfs_sidecar::proto::tensorflow::serving::{
    ClassificationRequest, ClassificationResponse, GetModelMetadataRequest, GetModelMetadataResponse,
    GetModelStatusRequest, GetModelStatusResponse, Input, ModelSpec, ModelVersionStatus,
    MultiInferenceRequest, MultiInferenceResponse, PredictRequest, PredictResponse, RegressionRequest,
    RegressionResponse, SignatureDefMap, StatusProto, input::Kind, model_spec::VersionChoice,
};

use super::super::requests::{CLASSIFY, METADATA, MULTI_INFERENCE, PREDICT, REGRESS, RELOAD, STATUS};
use super::model::{Model, Refusal, Version, check_dtypes, feed_name};

pub type Models = BTreeMap<String, Model>;

const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;
const FAILED_PRECONDITION: i32 = 9;
const UNIMPLEMENTED: i32 = 12;
const INTERNAL: i32 = 13;

/// The message of the answer, or a code and a text.
pub fn answer(models: &Models, path: &str, message: &[u8]) -> Result<Vec<u8>, Refusal> {
    match path {
        PREDICT => predict(models, &parse(message)?),
        METADATA => metadata(models, &parse(message)?),
        STATUS => status(models, &parse(message)?),
        CLASSIFY => {
            let request: ClassificationRequest = parse(message)?;
            let model_spec = infer(models, request.model_spec.as_ref(), request.input.as_ref())?;
            Ok(ClassificationResponse { model_spec: Some(model_spec), ..Default::default() }.encode_to_vec())
        }
        REGRESS => {
            let request: RegressionRequest = parse(message)?;
            let model_spec = infer(models, request.model_spec.as_ref(), request.input.as_ref())?;
            Ok(RegressionResponse { model_spec: Some(model_spec), ..Default::default() }.encode_to_vec())
        }
        MULTI_INFERENCE => {
            let request: MultiInferenceRequest = parse(message)?;
            for task in &request.tasks {
                infer(models, task.model_spec.as_ref(), request.input.as_ref())?;
            }
            Ok(MultiInferenceResponse::default().encode_to_vec())
        }
        RELOAD => Ok(Vec::new()),
        _ => Err((UNIMPLEMENTED, String::new())),
    }
}

/// How long a call takes, if it is a Predict call of a model with a delay.
pub fn delay(delays: &BTreeMap<String, Duration>, path: &str, message: &[u8]) -> Option<Duration> {
    if delays.is_empty() || path != PREDICT {
        return None;
    }
    let request: PredictRequest = parse(message).ok()?;
    delays.get(&request.model_spec?.name).copied()
}

fn parse<M: prost::Message + Default>(message: &[u8]) -> Result<M, Refusal> {
    M::decode(message).map_err(|_| (INTERNAL, "Error parsing proto message".to_owned()))
}

fn predict(models: &Models, request: &PredictRequest) -> Result<Vec<u8>, Refusal> {
    let spec = request.model_spec.as_ref();
    let (number, version) = find(models, spec)?;
    let name = signature_name(spec);
    let signature = version
        .signatures
        .get(name)
        .ok_or_else(|| (FAILED_PRECONDITION, format!("Serving signature key \"{name}\" not found.")))?;
    let sent: BTreeSet<&str> = request.inputs.keys().map(String::as_str).collect();
    let wanted: BTreeSet<&str> = signature.inputs.keys().map(String::as_str).collect();
    if sent.len() > wanted.len() || (sent.len() < wanted.len() && signature.defaults.is_empty()) {
        let text = format!(
            "input size does not match signature: {}!={} len({}) != len({}). Sent extra: {}. Missing but required: {}.",
            sent.len(),
            wanted.len(),
            set(&sent),
            set(&wanted),
            set(&sent.difference(&wanted).copied().collect()),
            set(&wanted.difference(&sent).copied().collect()),
        );
        return Err((INVALID_ARGUMENT, text));
    }
    for alias in &wanted {
        match request.inputs.get(*alias) {
            Some(tensor) if !decodable(tensor) => {
                return Err((INVALID_ARGUMENT, format!("tensor parsing error: {alias}")));
            }
            None if !signature.defaults.contains_key(*alias) => {
                let feed = feed_name(&signature.inputs[*alias]);
                let defaults: Vec<_> = signature.defaults.keys().map(String::as_str).collect();
                let text = format!(
                    "Signature input alias: {alias}(feed name: {feed}) not found in request and no default value provided. \
                     Inputs expected to be in the request {}, or default input alias set: {}",
                    set(&sent),
                    defaults.join(","),
                );
                return Err((INVALID_ARGUMENT, text));
            }
            _ => {}
        }
    }
    for filter in &request.output_filter {
        if !signature.outputs.contains_key(filter) {
            let outputs = set(&signature.outputs.keys().map(String::as_str).collect());
            let text = format!(
                "output tensor alias not found in signature: {filter} Outputs expected to be in the set {outputs}."
            );
            return Err((INVALID_ARGUMENT, text));
        }
    }
    check_dtypes(request, signature)?;
    let mut outputs = (version.compute)(request, signature)?;
    if !request.output_filter.is_empty() {
        outputs.retain(|alias, _| request.output_filter.contains(alias));
    }
    let model_spec = Some(served(spec, number, name));
    Ok(PredictResponse { model_spec, outputs }.encode_to_vec())
}

fn metadata(models: &Models, request: &GetModelMetadataRequest) -> Result<Vec<u8>, Refusal> {
    let spec = request.model_spec.as_ref().ok_or_else(missing_spec)?;
    if request.metadata_field.is_empty() {
        return Err((
            INVALID_ARGUMENT,
            "GetModelMetadataRequest must specify at least one metadata_field".into(),
        ));
    }
    if let Some(other) = request.metadata_field.iter().find(|field| *field != "signature_def") {
        return Err((INVALID_ARGUMENT, format!("Metadata field {other} is not supported")));
    }
    let (number, version) = find(models, Some(spec))?;
    // Encoded once: some tests have very many signatures.
    let value = version.encoded.get_or_init(|| {
        let map = SignatureDefMap { signature_def: version.signatures.clone().into_iter().collect() };
        map.encode_to_vec()
    });
    let type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap".to_owned();
    let any = Any { type_url, value: value.clone() };
    let metadata = [("signature_def".to_owned(), any)].into();
    let model_spec = Some(served(Some(spec), number, ""));
    Ok(GetModelMetadataResponse { model_spec, metadata }.encode_to_vec())
}

fn status(models: &Models, request: &GetModelStatusRequest) -> Result<Vec<u8>, Refusal> {
    let spec = request.model_spec.as_ref().ok_or_else(missing_spec)?;
    let wanted = match spec.version_choice {
        Some(VersionChoice::Version(version)) => Some(version),
        _ => None,
    };
    let versions = models.get(&spec.name).into_iter().flat_map(|model| model.versions.iter().rev());
    let model_version_status: Vec<_> = versions
        .filter(|(number, _)| wanted.is_none_or(|wanted| wanted == **number))
        .map(|(&version, of)| {
            let (error_code, error_message) = of.error.clone().unwrap_or_default();
            let status = Some(StatusProto { error_code, error_message });
            ModelVersionStatus { version, state: of.state.into(), status }
        })
        .collect();
    if model_version_status.is_empty() {
        let text = match wanted {
            Some(version) => format!("Could not find version {version} of model {}", spec.name),
            None => format!("Could not find any versions of model {}", spec.name),
        };
        return Err((NOT_FOUND, text));
    }
    Ok(GetModelStatusResponse { model_version_status }.encode_to_vec())
}

/// The checks that Classify, Regress and each task of MultiInference have in common.
fn infer(models: &Models, spec: Option<&ModelSpec>, input: Option<&Input>) -> Result<ModelSpec, Refusal> {
    let (number, version) = find(models, spec)?;
    let name = signature_name(spec);
    if !version.signatures.contains_key(name) {
        return Err((INVALID_ARGUMENT, format!("No signature was found with the name: {name}")));
    }
    let examples = match input.and_then(|input| input.kind.as_ref()) {
        Some(Kind::ExampleList(list)) => list.examples.len(),
        Some(Kind::ExampleListWithContext(list)) => list.examples.len(),
        None => 0,
    };
    if examples == 0 {
        return Err((INVALID_ARGUMENT, "Input is empty.".into()));
    }
    Ok(served(spec, number, name))
}

/// The version that a model spec names.
fn find<'a>(models: &'a Models, spec: Option<&ModelSpec>) -> Result<(i64, &'a Version), Refusal> {
    let spec = spec.ok_or_else(missing_spec)?;
    if spec.name.is_empty() {
        return Err((INVALID_ARGUMENT, "ModelSpec has no name specified.".into()));
    }
    let model = models.get(&spec.name);
    let number =
        match &spec.version_choice {
            None => None,
            Some(VersionChoice::Version(number)) => Some(*number),
            Some(VersionChoice::VersionLabel(label)) => {
                let number = model.and_then(|model| model.labels.get(label));
                Some(*number.ok_or_else(|| {
                    (INVALID_ARGUMENT, format!("Unrecognized servable version label: {label}"))
                })?)
            }
        };
    let found = model.and_then(|model| {
        let number = number.or_else(|| model.latest())?;
        model.versions.get(&number).filter(|version| version.serves()).map(|version| (number, version))
    });
    found.ok_or_else(|| {
        let which = match number {
            Some(number) => format!("Specific({}, {number})", spec.name),
            None => format!("Latest({})", spec.name),
        };
        (NOT_FOUND, format!("Servable not found for request: {which}"))
    })
}

fn missing_spec() -> Refusal {
    (INVALID_ARGUMENT, "Missing ModelSpec".into())
}

fn signature_name(spec: Option<&ModelSpec>) -> &str {
    spec.map(|spec| spec.signature_name.as_str()).filter(|name| !name.is_empty()).unwrap_or("serving_default")
}

fn served(spec: Option<&ModelSpec>, number: i64, signature: &str) -> ModelSpec {
    ModelSpec {
        name: spec.map(|spec| spec.name.clone()).unwrap_or_default(),
        signature_name: signature.to_owned(),
        version_choice: Some(VersionChoice::Version(number)),
    }
}

fn set(names: &BTreeSet<&str>) -> String {
    format!("{{{}}}", names.iter().copied().collect::<Vec<_>>().join(","))
}

/// Whether `Tensor::FromProto` accepts the tensor: a known dtype, a concrete shape whose size does
/// not overflow and fits in memory, and content of that size.
fn decodable(tensor: &TensorProto) -> bool {
    let size: usize = match tensor.dtype {
        4 | 6 | 10 | 11 | 12 | 24..=33 => 1,
        5 | 14 | 15 | 16 | 17 | 19 => 2,
        1 | 3 | 13 | 22 => 4,
        2 | 8 | 9 | 23 => 8,
        18 => 16,
        7 | 20 | 21 => 0,
        _ => return false,
    };
    let dims = tensor.tensor_shape.as_ref().map(|shape| shape.dim.as_slice()).unwrap_or_default();
    if dims.len() > 254 {
        return false;
    }
    let mut elements: i64 = 1;
    for dim in dims {
        match elements.checked_mul(dim.size) {
            Some(product) if dim.size >= 0 => elements = product,
            _ => return false,
        }
    }
    let bytes = usize::try_from(elements).ok().and_then(|elements| elements.checked_mul(size));
    let content = tensor.tensor_content.len();
    // The allocator is taken to refuse a tebibyte.
    bytes.is_some_and(|bytes| {
        bytes < 1 << 40 && (elements == 0 || content == 0 || size == 0 || content == bytes)
    })
}
