//! What a real TF Serving answered.
use std::collections::BTreeMap;

use prost::Message as _;

use super::models::{ALL, Exchange};
use crate::proto::tensorflow::Example;
use crate::proto::tensorflow::serving::input::Kind;
use crate::proto::tensorflow::serving::{ClassificationRequest, PredictRequest};
use crate::rest::json::{Event, Number, Walk};
use crate::rest::theirs::{Document, Refusal, examples, refusal};

/// Records that differ on purpose, with the reason. One that does not differ any more fails.
const DIFFERENCES: &[(&str, &str)] = &[];

/// The status of HTTP for a refusal's code (`http_server.cc`).
fn status(refusal: &Refusal) -> u64 {
    match refusal.code.name() {
        "INVALID_ARGUMENT" => 400,
        "UNIMPLEMENTED" => 501,
        other => panic!("{other}"),
    }
}

fn predict(record: &Exchange) -> Option<Refusal> {
    match ALL.models.get(&record.model) {
        Some(signatures) => refusal(&record.body, signatures),
        // Without the model TF Serving gets no further.
        None => Document::read(&record.body).err(),
    }
}

/// Compares every record of a filter with what TF Serving answered, and returns how many there are
/// of each kind.
fn compare(
    filter: impl Fn(&Exchange) -> bool,
    ours: impl Fn(&Exchange) -> Option<Refusal>,
) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    let mut faults = Vec::new();
    for record in ALL.records.iter().filter(|record| filter(record)) {
        *counts.entry(record.kind.as_str()).or_default() += 1;
        let ours = ours(record);
        let same = match &ours {
            Some(refusal) => {
                record.message.is_none()
                    && record.status == Some(status(refusal))
                    && record.errors.contains(&refusal.text)
            }
            None => record.message.is_some(),
        };
        let listed = DIFFERENCES.iter().any(|(id, _)| *id == record.id);
        if same == listed {
            let show = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
            faults.push(format!(
                "{}: body {}\n  {:?} {:?}\n  ours {:?}",
                record.id,
                show(&record.body[..record.body.len().min(300)]),
                record.status,
                record.errors.iter().map(|text| show(text)).collect::<Vec<_>>(),
                ours.map(|refusal| (refusal.code, refusal.lossy().into_owned())),
            ));
        }
    }
    assert!(faults.is_empty(), "{} differ\n{}", faults.len(), faults.join("\n"));
    counts
}

const KINDS: &[&str] = &[
    "json",
    "number",
    "shape",
    "signature",
    "coerce",
    "b64",
    "format",
    "predict",
    "outputs",
    "strings",
    "classify",
    "regress",
];

fn covered(record: &Exchange) -> bool {
    KINDS.contains(&record.kind.as_str())
}

#[test]
fn predict_bodies_are_refused_as_tf_serving_refuses_them() {
    let counts =
        compare(|record| covered(record) && record.method == "predict" && record.message.is_none(), predict);
    let expected = [
        ("b64", 31),
        ("coerce", 396),
        ("json", 125),
        ("predict", 4),
        ("shape", 100),
        ("signature", 13),
        ("strings", 1),
    ];
    assert_eq!(counts, expected.into());
}

#[test]
fn predict_bodies_that_reach_the_model_are_not_refused() {
    let counts =
        compare(|record| covered(record) && record.method == "predict" && record.message.is_some(), predict);
    let expected = [
        ("b64", 41),
        ("coerce", 211),
        ("format", 77),
        ("json", 47),
        ("number", 79),
        ("outputs", 39),
        ("predict", 35),
        ("shape", 55),
        ("signature", 17),
        ("strings", 56),
    ];
    assert_eq!(counts, expected.into());
}

#[test]
fn examples_are_refused_as_tf_serving_refuses_them() {
    let counts = compare(
        |record| matches!(record.method.as_str(), "classify" | "regress") && covered(record),
        |record| examples(&record.body, |_| Vec::new(), usize::MAX).err(),
    );
    assert_eq!(counts, [("classify", 65), ("regress", 66)].into());
}

#[test]
fn examples_become_the_messages_that_tf_serving_makes() {
    let mut count = 0;
    for record in ALL.records.iter().filter(|record| record.method != "predict") {
        let Some(message) = &record.message else { continue };
        let theirs = ClassificationRequest::decode(message.as_slice()).unwrap();
        let spec = theirs.model_spec.clone().unwrap();
        let ours = examples(&record.body, |_| spec.encode_to_vec(), usize::MAX).unwrap();
        assert_eq!(ours.signature_name, spec.signature_name.as_bytes(), "{}", record.id);
        let decoded = ClassificationRequest::decode(ours.message.to_bytes()).unwrap();
        assert_eq!(parts(&decoded), parts(&theirs), "{}", record.id);
        count += 1;
    }
    assert_eq!(count, 72);
}

/// A message as text, since NaN is not equal to itself, without the order of its maps.
fn parts(request: &ClassificationRequest) -> Vec<String> {
    let example = |example: &Example| {
        let features = example.features.iter().flat_map(|features| &features.feature);
        let mut features: Vec<_> = features.map(|feature| format!("{feature:?}")).collect();
        features.sort();
        features.push(example.features.is_some().to_string());
        features.join(" ")
    };
    let (mut parts, list) = match request.input.as_ref().and_then(|input| input.kind.as_ref()).unwrap() {
        Kind::ExampleList(list) => (vec!["no context".to_owned()], &list.examples),
        Kind::ExampleListWithContext(list) => {
            (vec![list.context.as_ref().map_or("none".to_owned(), example)], &list.examples)
        }
    };
    parts.push(format!("{:?}", request.model_spec));
    parts.extend(list.iter().map(example));
    parts
}

/// Doubles come from all records of one input of that dtype.
#[test]
fn doubles_are_read_as_tf_serving_reads_them() {
    let mut count = 0;
    for record in ALL.records.iter().filter(|record| record.model == "echo_float64") {
        let Some(message) = &record.message else { continue };
        let request = PredictRequest::decode(message.as_slice()).unwrap();
        let tensor = request.inputs.values().next().unwrap();
        let mut walk = Walk::at(&record.body, 0);
        let mut read = Vec::new();
        loop {
            match walk.step() {
                Event::Number(Number::Double(value)) => read.push(value),
                Event::Number(Number::Unsigned(value)) => read.push(value as f64),
                Event::Number(Number::Negative(value)) => read.push(value as f64),
                Event::End => break,
                _ => {}
            }
        }
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let theirs: Vec<f64> = tensor.double_val.clone();
        assert_eq!(bits(&read), bits(&theirs), "{}", record.id);
        count += read.len();
    }
    assert_eq!(count, 603);
}

/// TF Serving's process ends for three of these; we refuse them.
#[test]
fn deep_nesting_is_refused_where_it_crashes_tf_serving() {
    let mut refused = Vec::new();
    for record in ALL.records.iter().filter(|record| record.id.starts_with("crash.deep")) {
        let ours = predict(record);
        let Some(status) = record.status else {
            assert!(ours.unwrap().lossy().contains("nested more than 16000 levels"), "{}", record.id);
            refused.push(record.id.as_str());
            continue;
        };
        let from_model = |text: &Vec<u8>| text.starts_with(b"tensor parsing error");
        if status == 200 || record.errors.iter().any(from_model) {
            assert_eq!(ours, None, "{}", record.id);
        } else if record.method == "predict" {
            assert!(record.errors.contains(&ours.unwrap().text), "{}", record.id);
        }
    }
    assert_eq!(refused, ["crash.deep.row.20000", "crash.deep.col.20000", "crash.deep.col.100000"]);
}
