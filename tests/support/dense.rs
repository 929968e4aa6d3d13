//! A small model that is really computed: Dense 128 -> 64 relu -> 10 softmax, with TensorFlow's
//! errors for wrong shapes.
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::LazyLock;

use prost::bytes::Bytes;
use tfs_sidecar::proto::tensorflow::serving::PredictRequest;
use tfs_sidecar::proto::tensorflow::{SignatureDef, TensorProto};

use super::fake_tfs::model::{Model, Outputs, Refusal, Sig};
use super::requests::{self, FLOAT, Predict, float_list};

pub const MODEL: &str = "mlp";
pub const INPUT: &str = "input_tensor";
pub const OUTPUT: &str = "probs";
const INPUTS: usize = 128;
const HIDDEN: usize = 64;
const CLASSES: usize = 10;
const NODE: &str =
    "\n\t [[{{function_node __inference_<lambda>_376}}{{node functional_1_1/dense_1_1/Relu}}]]";

/// One input and TensorFlow's answer to it.
#[derive(Debug, serde::Deserialize)]
pub struct Case {
    pub input_tensor: Vec<f32>,
    pub probs: Vec<f32>,
}

/// The committed case.
pub static CASE: LazyLock<Case> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../fixtures/dense_mlp_case.json"))
        .expect("the committed case is valid")
});

static WEIGHTS: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let bytes: &[u8] = include_bytes!("../fixtures/dense_mlp.f32");
    let values: Vec<f32> =
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert_eq!(values.len(), INPUTS * HIDDEN + HIDDEN + HIDDEN * CLASSES + CLASSES, "the committed weights");
    values
});

/// `mlp` with the versions and labels of the fixture; both versions compute the same here.
pub fn model() -> Model {
    model_named(MODEL)
}

/// The same model under another name.
pub fn model_named(name: &str) -> Model {
    let compute = Arc::new(answer);
    Model::new(name)
        .computing(1, [signature()], compute.clone())
        .computing(2, [signature()], compute)
        .label("stable", 1)
        .label("canary", 2)
}

pub fn signature() -> Sig {
    signature_named("serving_default")
}

pub fn signature_named(name: &str) -> Sig {
    Sig::new(name).input(INPUT, FLOAT, &[-1, INPUTS as i64]).output(OUTPUT, FLOAT, &[-1, CLASSES as i64])
}

/// A Predict request with the input of the case, as the signature declares it.
pub fn conforming() -> Bytes {
    Predict::new(MODEL).input(INPUT, requests::floats(&[1, INPUTS as i64], &CASE.input_tensor)).bytes()
}

/// The same request without its batch dimension, which the sidecar adds.
pub fn flat() -> Bytes {
    Predict::new(MODEL).input(INPUT, requests::floats(&[INPUTS as i64], &CASE.input_tensor)).bytes()
}

/// The class with the highest probability, and that probability.
pub fn top(probs: &[f32]) -> (usize, f32) {
    let best = probs.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    best.expect("an answer has probabilities")
}

/// Panics unless `probs` are those of the case, up to the rounding of another summation order.
pub fn assert_case(probs: &[f32]) {
    assert!(is_case(probs), "expected {:?}, got {probs:?}", CASE.probs);
}

pub fn is_case(probs: &[f32]) -> bool {
    probs.len() == CASE.probs.len() && probs.iter().zip(&CASE.probs).all(|(a, b)| (a - b).abs() < 1e-5)
}

fn answer(request: &PredictRequest, _signature: &SignatureDef) -> Result<Outputs, Refusal> {
    let tensor = request.inputs.get(INPUT).expect("the names have been checked");
    let dims = dims(tensor);
    let [_, columns] = dims[..] else {
        return Err((3, format!("In[0] and In[1] has different ndims: {} vs. [128,64]{NODE}", list(&dims))));
    };
    if columns != INPUTS as i64 {
        return Err((3, format!("Matrix size-incompatible: In[0]: {}, In[1]: [128,64]{NODE}", list(&dims))));
    }
    let rows = usize::try_from(dims[0]).expect("the shape has been checked");
    let values = floats(tensor, rows * INPUTS);
    let probs: Vec<f32> = values.chunks_exact(INPUTS).flat_map(forward).collect();
    Ok(HashMap::from([(OUTPUT.to_owned(), float_list(&[rows as i64, CLASSES as i64], &probs))]))
}

/// One row through both layers.
pub fn forward(row: &[f32]) -> [f32; CLASSES] {
    let (kernel1, rest) = WEIGHTS.split_at(INPUTS * HIDDEN);
    let (bias1, rest) = rest.split_at(HIDDEN);
    let (kernel2, bias2) = rest.split_at(HIDDEN * CLASSES);
    let mut hidden: [f32; HIDDEN] = bias1.try_into().unwrap();
    add_product(row, kernel1, &mut hidden);
    let hidden = hidden.map(|value| value.max(0.0));
    let mut logits: [f32; CLASSES] = bias2.try_into().unwrap();
    add_product(&hidden, kernel2, &mut logits);
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers = logits.map(|value| (value - highest).exp());
    let sum: f32 = powers.iter().sum();
    powers.map(|value| value / sum)
}

fn add_product(row: &[f32], kernel: &[f32], sums: &mut [f32]) {
    for (value, weights) in row.iter().zip(kernel.chunks_exact(sums.len())) {
        for (sum, weight) in sums.iter_mut().zip(weights) {
            *sum += value * weight;
        }
    }
}

pub fn dims(tensor: &TensorProto) -> Vec<i64> {
    tensor.tensor_shape.iter().flat_map(|shape| &shape.dim).map(|dim| dim.size).collect()
}

fn list(dims: &[i64]) -> String {
    let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
    format!("[{}]", dims.join(","))
}

/// The values as TensorFlow reads them: content wins over the list, a short list repeats its last
/// value, and an empty list means zeros.
pub fn floats(tensor: &TensorProto, count: usize) -> Vec<f32> {
    if !tensor.tensor_content.is_empty() {
        let fours = tensor.tensor_content.chunks_exact(4);
        return fours.map(|four| f32::from_le_bytes(four.try_into().unwrap())).take(count).collect();
    }
    let last = tensor.float_val.last().copied().unwrap_or_default();
    tensor.float_val.iter().copied().chain(std::iter::repeat(last)).take(count).collect()
}
