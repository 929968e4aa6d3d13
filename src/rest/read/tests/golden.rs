//! Every recorded Predict request: the tensors are those that TF Serving made of it, or a finding
//! says why not.
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::support::{AS_SERVED, OPTIONS, Tensor, kinds, models, tensors};
use crate::rest::read::{Findings, Kind, Options, Read, read};
use crate::signature::Signatures;
use crate::tensor::DataType;

const RECORDS: &str = include_str!("../../../../tests/fixtures/golden/tfs_rest_golden.jsonl");

/// A recorded Predict request.
struct Recorded {
    id: String,
    model: String,
    body: Vec<u8>,
    status: u64,
    answer: String,
    /// The tensors that TF Serving made of it.
    made: Option<BTreeMap<String, Tensor>>,
}

fn bytes(record: &Value) -> Option<Vec<u8>> {
    if let Some(text) = record["body"].as_str() {
        return Some(text.as_bytes().to_vec());
    }
    if let Some(text) = record["body_b64"].as_str() {
        return Some(STANDARD.decode(text).unwrap());
    }
    let parts = record["body_gen"].as_array()?;
    let part = |part: &Value| part[0].as_str().unwrap().repeat(part[1].as_u64().unwrap() as usize);
    Some(parts.iter().map(part).collect::<String>().into_bytes())
}

/// The requests whose body alone decides what becomes of them.
fn records() -> Vec<Recorded> {
    let kinds = [
        "number",
        "json",
        "predict",
        "shape",
        "signature",
        "coerce",
        "b64",
        "outputs",
        "strings",
        "format",
        "crash",
    ];
    let lines = RECORDS.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let chosen = lines.filter(|record| {
        kinds.contains(&record["kind"].as_str().unwrap())
            && record["path"].as_str().is_some_and(|path| path.ends_with(":predict"))
            && record["flags"].as_str().unwrap_or("").is_empty()
    });
    chosen
        .map(|record| {
            let path = record["path"].as_str().unwrap();
            let name = path.trim_start_matches("/v1/models/").trim_end_matches(":predict");
            let made =
                record["grpc"]["request_b64"].as_str().map(|text| tensors(&STANDARD.decode(text).unwrap()));
            let answer = &record["responses"][0];
            Recorded {
                id: record["id"].as_str().unwrap().to_owned(),
                model: name.split('/').next().unwrap().to_owned(),
                body: bytes(&record).unwrap_or_default(),
                status: answer["status"].as_u64().unwrap_or(0),
                answer: answer["body"].as_str().unwrap_or("").to_owned(),
                made,
            }
        })
        .collect()
}

fn read_record(
    models: &BTreeMap<String, Signatures>,
    record: &Recorded,
    options: &Options,
) -> Result<Read, Findings> {
    let choose = |name: &str| {
        let name = if name.is_empty() { "serving_default" } else { name };
        models.get(&record.model)?.get(name).cloned()
    };
    read(&record.body, &choose, options)
}

/// Whether two tensors are equal but for numbers that RapidJSON rounds wrongly. How many are not
/// equal is returned.
fn differing(ours: &Tensor, theirs: &Tensor) -> Option<usize> {
    if (ours.dtype, &ours.shape, ours.values.len()) != (theirs.dtype, &theirs.shape, theirs.values.len()) {
        return None;
    }
    let mut differing = 0;
    for (our, their) in ours.values.iter().zip(&theirs.values).filter(|(our, their)| our != their) {
        let close = match ours.dtype {
            DataType::FLOAT => {
                let float = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
                let (our, their) = (float(our), float(their));
                our.is_nan() && their.is_nan() && continue
                    || our.to_bits().abs_diff(their.to_bits()) <= 1
                    || their.abs() == 0.0 && our.abs() < f32::MIN_POSITIVE
            }
            DataType::DOUBLE => {
                let double = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().unwrap());
                let (our, their) = (double(our), double(their));
                our.is_nan() && their.is_nan() && continue
                    || our.to_bits().abs_diff(their.to_bits()) <= 3
                    || their.abs() == 0.0 && our.abs() < f64::MIN_POSITIVE
            }
            _ => false,
        };
        if !close {
            return None;
        }
        differing += 1;
    }
    Some(differing)
}

/// Requests that TF Serving forwards and we do not, or not alike: the first finding, and why.
const REASONED: &[(&str, Kind, &str)] = &[
    ("coerce.int16.35", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.int16.36", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.int16.37", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.int16.40", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.int16.51", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.int8.25", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.int8.27", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.int8.28", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.int8.29", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.int8.30", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.int8.32", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.int8.33", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.int8.34", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.int8.35", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.int8.37", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.int8.38", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.int8.40", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.uint8.05", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.uint8.26", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.uint8.27", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.uint8.29", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.uint8.30", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.uint8.31", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.uint8.32", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.uint8.34", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.uint8.35", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.uint8.36", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.uint8.37", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.uint8.40", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("coerce.uint8.51", Kind::OutOfRange, "TF Serving drops the upper bits"),
    ("json.dup.inputs", Kind::DuplicateKey, "TF Serving drops the second value"),
    ("json.dup.instkey", Kind::DuplicateKey, "TF Serving appends the values, and later rows get wrong ones"),
    ("json.dup.instkey2", Kind::DuplicateKey, "TF Serving appends the values, and later rows get wrong ones"),
    ("json.e308", Kind::OutOfRange, "TF Serving reads infinity"),
    ("json.e308b", Kind::OutOfRange, "TF Serving reads infinity"),
    ("json.nulname", Kind::MissingInput, "the name ends at a NUL for TF Serving"),
    ("number.hard.f32.08", Kind::OutOfRange, "TF Serving reads infinity"),
    ("number.hard.f32.11", Kind::OutOfRange, "TF Serving reads infinity"),
    (
        "shape.any.col.dim1000",
        Kind::TooDeep,
        "more dimensions than TensorFlow has: TF Serving refuses it one step later",
    ),
    (
        "shape.any.col.dim255",
        Kind::TooDeep,
        "more dimensions than TensorFlow has: TF Serving refuses it one step later",
    ),
];

/// What TF Serving refuses and we read without any finding, by the beginning of the id: dtypes that
/// it cannot read from JSON.
const READ: &[&str] =
    &["coerce.float16.", "coerce.bfloat16.", "coerce.uint16.", "coerce.complex64.", "coerce.complex128."];

fn first(findings: &Findings) -> Kind {
    let mut findings: Vec<_> = findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.kind.severity()));
    findings.first().unwrap().kind
}

#[test]
fn recorded_requests_become_the_tensors_that_tf_serving_made() {
    let models = models();
    let (mut seen, mut rounded) = (0, 0);
    let mut reasoned: BTreeMap<&str, Kind> = REASONED.iter().map(|(id, kind, _)| (*id, *kind)).collect();
    for record in records() {
        let Some(made) = &record.made else { continue };
        seen += 1;
        let outcome = read_record(&models, &record, &OPTIONS);
        if let Some(kind) = reasoned.remove(record.id.as_str()) {
            let findings = outcome.map_or_else(|findings| findings, |read| read.findings);
            assert_eq!(first(&findings), kind, "{}", record.id);
            continue;
        }
        let read = outcome.unwrap_or_else(|findings| panic!("{}: {findings:?}", record.id));
        let found = tensors(&read.message(b"").to_bytes());
        assert_eq!(found.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>(), "{}", record.id);
        for (name, ours) in &found {
            let count = differing(ours, &made[name]);
            rounded += count.unwrap_or_else(|| panic!("{}: {ours:?} {:?}", record.id, made[name]));
        }
    }
    assert_eq!(reasoned, BTreeMap::new(), "not recorded");
    // Every difference of the others is a number that RapidJSON rounds wrongly or flushes to zero.
    assert_eq!((seen, rounded), (657, 132));
}

#[test]
fn what_tf_serving_refuses_is_never_read_silently() {
    let models = models();
    let (mut seen, mut silent) = (0, 0);
    for record in records().iter().filter(|record| record.made.is_none() && record.status != 200) {
        seen += 1;
        if let Ok(read) = read_record(&models, record, &OPTIONS)
            && read.findings.is_empty()
        {
            assert!(READ.iter().any(|id| record.id.starts_with(id)), "{}: {}", record.id, record.answer);
            silent += 1;
        }
    }
    assert_eq!((seen, silent), (682, 17));
}

/// Read as served, the only records that differ are those whose rank TensorFlow refuses.
#[test]
fn as_served_values_are_those_of_tf_serving() {
    let models = models();
    let mut seen = 0;
    for record in records() {
        let Some(made) = &record.made else { continue };
        match read_record(&models, &record, &AS_SERVED) {
            Err(findings) => assert_eq!(kinds(&findings), [Kind::TooDeep], "{}", record.id),
            Ok(read) => {
                seen += 1;
                let found = tensors(&read.message(b"").to_bytes());
                assert_eq!(found.len(), made.len());
                for (name, ours) in &found {
                    // Of values beyond the shape TensorFlow takes the first (`FromProto`,
                    // tensor.cc).
                    let mut theirs = made[name].clone();
                    theirs.values.truncate(ours.values.len());
                    assert!(differing(ours, &theirs).is_some(), "{}: {ours:?} {theirs:?}", record.id);
                }
            }
        }
    }
    assert_eq!(seen, 655);
}

/// Where TF Serving's numbers differ, ours are the nearest ones: the standard library agrees.
#[test]
fn recorded_numbers_are_rounded_correctly() {
    let models = models();
    let mut seen = 0;
    for record in records().iter().filter(|record| record.id.starts_with("number.")) {
        let Ok(read) = read_record(&models, record, &AS_SERVED) else { panic!("{}", record.id) };
        let body = String::from_utf8_lossy(&record.body);
        let (_, values) = body.split_once(':').unwrap();
        let texts = values.split(['[', ']', ',', '}', ' ']).filter(|text| !text.is_empty());
        let found = &tensors(&read.message(b"").to_bytes())["x"];
        let expected: Vec<Vec<u8>> = match found.dtype {
            DataType::FLOAT => {
                texts.map(|text| text.parse::<f32>().unwrap().to_le_bytes().to_vec()).collect()
            }
            _ => texts.map(|text| text.parse::<f64>().unwrap().to_le_bytes().to_vec()).collect(),
        };
        assert_eq!(found.values, expected, "{}", record.id);
        seen += expected.len();
    }
    assert_eq!(seen, 759);
}
