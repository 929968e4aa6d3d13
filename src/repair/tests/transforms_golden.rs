//! Transforms against NumPy and Python, and what they take.
use prost::Message as _;

use super::transforms::{HALVE, declared, made};
use super::*;
use crate::proto::tensorflow::TensorProto;
use crate::proto::tensorflow::serving::PredictRequest;
use crate::tensor::Shape;

#[derive(serde::Deserialize)]
struct Numbers {
    sent: String,
    declared: String,
    transform: String,
    shape: Vec<i64>,
    values: String,
    becomes: String,
    client_ulps: Option<u64>,
}

#[derive(serde::Deserialize)]
struct Words {
    transform: String,
    text: String,
    becomes: String,
}

pub(super) fn bytes(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

/// The request with another tensor under `x`.
pub(super) fn with(mut case: Case, tensor: TensorProto) -> Case {
    let mut request = PredictRequest::decode(case.message.to_bytes()).unwrap();
    request.inputs.insert("x".to_owned(), tensor);
    case.message = Rope::from(request.encode_to_vec());
    case
}

/// Every number of NumPy, to the bit; the lines say how far a client is that computes in float32.
#[test]
fn numbers_are_those_of_numpy() {
    let (mut lines, mut furthest) = (0, std::collections::BTreeMap::new());
    for line in include_str!("../../../tests/fixtures/transforms/numbers.jsonl").lines() {
        let line: Numbers = serde_json::from_str(line).unwrap();
        let axes = line.transform.strip_prefix("{transpose: ").and_then(|rest| rest.split_once('}'));
        let axes: Option<Vec<usize>> = axes.map(|(axes, _)| serde_json::from_str(axes).unwrap());
        let declared_shape = match &axes {
            Some(axes) => axes.iter().map(|axis| line.shape[*axis]).collect(),
            None => Shape::from(&line.shape[..]),
        };
        let sent = Shape::from(&line.shape[..]);
        let signature = format!("x:{}{declared_shape}", line.declared);
        let case = declared(
            &signature,
            &format!("x:{}{sent}", line.sent),
            &format!("transform: [{}]", line.transform),
        );
        let mut tensor = PredictRequest::decode(case.message.to_bytes()).unwrap().inputs.remove("x").unwrap();
        tensor.tensor_content = bytes(&line.values).into();
        let case = with(case, tensor);
        assert!(case.judge().problems.is_empty(), "{}: {}", line.transform, case.says());
        assert!(
            made(&case).tensor_content == bytes(&line.becomes),
            "{} {} {}",
            line.sent,
            line.declared,
            line.transform
        );
        lines += 1;
        if let Some(ulps) = line.client_ulps {
            let name = line.transform.split(':').next().unwrap().to_owned();
            let furthest = furthest.entry(name).or_insert(0);
            *furthest = ulps.max(*furthest);
        }
    }
    assert!(lines > 80, "{lines}");
    // docs/preprocessing.md states them.
    let expected = [("{clip", 0), ("{scale", 2), ("{standardize", 52)];
    assert_eq!(furthest, expected.map(|(name, ulps)| (name.to_owned(), ulps)).into());
}

#[test]
fn texts_are_those_of_python() {
    for line in include_str!("../../../tests/fixtures/transforms/texts.jsonl").lines() {
        let line: Words = serde_json::from_str(line).unwrap();
        let case = declared("x:string[-1]", "x:string[1]{a}", &format!("transform: [{}]", line.transform));
        let mut tensor = PredictRequest::decode(case.message.to_bytes()).unwrap().inputs.remove("x").unwrap();
        tensor.string_val = vec![bytes(&line.text).into()];
        let case = with(case, tensor);
        assert_eq!(made(&case).string_val, [bytes(&line.becomes)], "{} {}", line.transform, case.says());
    }
}

#[test]
fn cost_is_known_before_anything_is_made() {
    for (signature, request, keys) in [
        ("x:float[-1,2]", "x:uint8[2,2]", HALVE),
        ("x:float[-1,2]", "x:float[2,2]@float_val{2}", HALVE),
        ("x:float[-1,3]", "x:float[2,2]", "pad: {value: 4}, transform: [{scale: {factor: 2}}]"),
        ("x:float[2,3]", "x:float[3,2]", "transform: [{transpose: [1, 0]}]"),
        ("x:string[-1]", "x:string[2]{aGk=,aGkh}", "transform: [{decode_base64: on}]"),
        ("x:string[-1]", "x:string[2]{Ⱥ,ȺȺȺȺ}", "transform: [{lowercase: on}]"),
    ] {
        let case = declared(signature, request, keys);
        let view = PredictView::scan(&case.message).unwrap();
        let cost = cost(&view, &case.judge().plan);
        let tensor = made(&case);
        let values = tensor.tensor_content.len() + 4 * tensor.float_val.len();
        let strings: usize = tensor.string_val.iter().map(|text| text.len() + 2).sum();
        assert!(
            cost.memory >= (values + strings) as u64 && cost.values <= (values + strings) as u64,
            "{request}: {cost:?}"
        );
        assert!(cost.memory > 0, "{request}");
    }
}
