//! What a real TF Serving answered, against what is written for the same message.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Format, Refusal, classify, error, http_status, metadata, predict, regress, status};
use crate::wire::Rope;

const GOLDEN: &str = include_str!("../../../tests/fixtures/golden/tfs_rest_golden.jsonl");
const MAX: usize = 64 << 20;

/// Why we differ on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// TF Serving prints subnormal numbers as zero. We print their value.
    Subnormal,
    /// TF Serving writes strings that are not UTF-8 as they are, which is not JSON. We write U+FFFD
    /// for each invalid sequence, as parsers that tolerate it read it.
    NotUtf8,
    /// TF Serving cannot print the dtype, and fails the request after it ran. We print this value.
    Dtype(&'static str),
}

use Reason::{Dtype, NotUtf8, Subnormal};

/// Every record from which we differ.
const DIFFERENCES: &[(&str, Reason)] = &[
    ("format.float.bits.specials", Subnormal),
    ("format.float.bits.rand.11", Subnormal),
    ("format.double.specials", Subnormal),
    ("format.double.02", Subnormal),
    ("format.double.04", Subnormal),
    ("b64.elem.07", NotUtf8),
    ("b64.elem.10", NotUtf8),
    ("b64.elem.20", NotUtf8),
    ("b64.elem.21", NotUtf8),
    ("b64.inputs.07", NotUtf8),
    ("b64.str.named.in", NotUtf8),
    ("b64.strs.obj.row", NotUtf8),
    ("b64.strs.in_bytes", NotUtf8),
    ("json.string.sur_lo", NotUtf8),
    ("json.string.badutf8", NotUtf8),
    ("json.string.overlong", NotUtf8),
    ("json.string.surutf8", NotUtf8),
    ("format.f16.col", Dtype(r#"{"outputs":[[0.5,1.0]]}"#)),
    ("format.f16.row", Dtype(r#"{"predictions":[[0.5,1.0]]}"#)),
    ("format.bf16.col", Dtype(r#"{"outputs":[[1.0,2.0]]}"#)),
    ("format.u16.row", Dtype(r#"{"predictions":[[1,65535]]}"#)),
    ("format.c64.col", Dtype(r#"{"outputs":[[[1.0,2.0]]]}"#)),
    ("format.c64.row", Dtype(r#"{"predictions":[[[1.0,2.0]]]}"#)),
    ("format.c128.col", Dtype(r#"{"outputs":[[[1.0,2.0]]]}"#)),
    ("format.c128.row", Dtype(r#"{"predictions":[[[1.0,2.0]]]}"#)),
    ("outputs.half.row.11", Dtype(r#"{"predictions":[[1.5,-2.0],[3.0,4.0]]}"#)),
    (
        "outputs.half_and_float.row.12",
        Dtype(r#"{"predictions":[{"f":[1.5,-2.0],"h":[1.5,-2.0]},{"f":[3.0,4.0],"h":[3.0,4.0]}]}"#),
    ),
    (
        "outputs.half_and_float.col.12",
        Dtype(r#"{"outputs":{"f":[[1.5,-2.0],[3.0,4.0]],"h":[[1.5,-2.0],[3.0,4.0]]}}"#),
    ),
    ("strings.serving_default.row.01", NotUtf8),
    ("strings.one.row.01", NotUtf8),
    ("strings.serving_default.row.06", NotUtf8),
    ("strings.one.row.06", NotUtf8),
    ("strings.serving_default.col.08", NotUtf8),
    ("strings.one.col.08", NotUtf8),
    ("strings.serving_default.row.09", NotUtf8),
    ("strings.serving_default.col.09", NotUtf8),
    ("strings.one.row.09", NotUtf8),
    ("strings.one.col.09", NotUtf8),
    ("strings.scalar.col.two", NotUtf8),
];

/// A recorded request whose message from TF Serving's core is known.
struct Recorded {
    id: String,
    message: Rope,
    format: Format,
    status: u16,
    body: Vec<u8>,
    stable: String,
    /// The bodies of all runs, if they differ.
    seen: Vec<String>,
    /// The length and the end of a body of which only the beginning is recorded.
    cut: Option<(usize, String)>,
}

fn records(method: &str) -> Vec<Recorded> {
    let mut records = Vec::new();
    for line in GOLDEN.lines() {
        let json: Value = serde_json::from_str(line).unwrap();
        let grpc = &json["grpc"];
        let (Some(found), Some(message)) = (grpc["method"].as_str(), grpc["response_b64"].as_str()) else {
            continue;
        };
        if found.rsplit('/').next() != Some(method) {
            continue;
        }
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        let response = json["responses"].as_array().unwrap().last().unwrap();
        let body = match (response["body"].as_str(), response["body_b64"].as_str()) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(base64)) => STANDARD.decode(base64).unwrap(),
            // Too long to be recorded as a whole.
            _ => response["body_head"].as_str().unwrap().as_bytes().to_vec(),
        };
        let row = body.starts_with(b"{\n    \"predictions\"") || text("body").contains("\"instances\"");
        let bodies = json["seen"].as_array().into_iter().flatten();
        records.push(Recorded {
            id: text("id"),
            message: Rope::from(STANDARD.decode(message).unwrap()),
            format: if row { Format::Row } else { Format::Column },
            status: response["status"].as_u64().unwrap() as u16,
            stable: text("stable"),
            seen: bodies.map(|runs| runs[0]["body"].as_str().unwrap().to_owned()).collect(),
            cut: response["body_bytes"]
                .as_u64()
                .map(|length| (length as usize, response["body_tail"].as_str().unwrap().to_owned())),
            body,
        });
    }
    records
}

/// JSON in which each number is a string with its text, and the order of keys does not count.
pub(super) fn meaning(body: &[u8]) -> Value {
    let (mut quoted, mut rest) = (String::new(), std::str::from_utf8(body).unwrap());
    let bare = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    while let Some(first) = rest.chars().next() {
        let end = if first == '"' {
            let mut escaped = true;
            let end = rest.bytes().position(|byte| {
                let ends = byte == b'"' && !escaped;
                escaped = byte == b'\\' && !escaped;
                ends
            });
            end.unwrap() + 1
        } else if bare(first) {
            rest.find(|c| !bare(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(end);
        quoted += if bare(first) { "\"#" } else { "" };
        quoted += token;
        quoted += if bare(first) { "\"" } else { "" };
        rest = after;
    }
    serde_json::from_str(&quoted).unwrap_or_else(|error| panic!("{error}: {quoted}"))
}

/// Whether the texts differ only where one has a zero and the other a subnormal number.
fn differ_by_subnormals(theirs: &str, ours: &str) -> bool {
    let split = |text: &str| text.split([',', '[', ']', ' ', '\n']).map(str::to_owned).collect::<Vec<_>>();
    let (theirs, ours) = (split(theirs), split(ours));
    let pairs = || theirs.iter().zip(&ours).filter(|(left, right)| left != right);
    let subnormal =
        |text: &str| text.parse::<f64>().is_ok_and(|v| v != 0.0 && v.abs() < f64::from(f32::MIN_POSITIVE));
    theirs.len() == ours.len()
        && pairs().count() > 0
        && pairs().all(|(left, right)| left.trim_start_matches('-') == "0.0" && subnormal(right))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    bytes: usize,
    meaning: usize,
    errors: usize,
    differ: usize,
}

/// Compares all records of a method with what is written.
fn compare(method: &str, write: impl Fn(&Recorded) -> Result<Vec<u8>, Refusal>) -> Counts {
    let mut counts = Counts::default();
    let mut faults = Vec::new();
    for record in records(method) {
        let (status, ours) = match write(&record) {
            Ok(body) => (200, body),
            Err(refusal) => (http_status(refusal.code), error(&refusal.text, &[])),
        };
        let text = std::str::from_utf8(&ours).unwrap();
        let known = DIFFERENCES.iter().find(|(id, _)| *id == record.id).map(|(_, reason)| *reason);
        let same = match (&record.cut, record.stable.as_str()) {
            _ if status != record.status => false,
            (Some((length, tail)), _) => {
                ours.len() == *length && ours.starts_with(&record.body) && text.ends_with(tail)
            }
            (None, "json") if std::str::from_utf8(&record.body).is_err() => false,
            (None, "json") => meaning(&ours) == meaning(&record.body),
            (None, "status") => record.seen.iter().any(|seen| seen == text),
            (None, _) => ours == record.body,
        };
        let lossy = String::from_utf8_lossy(&record.body);
        let explained = match known {
            None => same,
            Some(_) if same => false,
            Some(NotUtf8) if record.stable == "json" => meaning(lossy.as_bytes()) == meaning(&ours),
            Some(NotUtf8) => lossy == text,
            Some(Subnormal) => differ_by_subnormals(&lossy, text),
            Some(Dtype(expected)) => {
                text.split_whitespace().collect::<String>() == expected
                    && lossy.contains("Failed to write JSON value")
            }
        };
        match (same, status, record.stable.as_str()) {
            (false, ..) => counts.differ += 1,
            (true, 200, "json") => counts.meaning += 1,
            (true, 200, _) => counts.bytes += 1,
            (true, ..) => counts.errors += 1,
        }
        if !explained {
            faults.push(format!("{} {known:?}\n--- recorded\n{lossy}\n--- written\n{text}", record.id));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    counts
}

#[test]
fn predictions_are_those_of_tf_serving() {
    let counts =
        compare("Predict", |record| predict(&record.message, record.format, MAX).map(|answer| answer.json));
    assert_eq!(counts, Counts { bytes: 564, meaning: 46, errors: 5, differ: DIFFERENCES.len() });
}

#[test]
fn results_are_those_of_tf_serving() {
    let counts = compare("Classify", |record| classify(&record.message, MAX).map(|answer| answer.json));
    assert_eq!(counts, Counts { bytes: 17, ..Counts::default() });
    let counts = compare("Regress", |record| regress(&record.message, MAX).map(|answer| answer.json));
    assert_eq!(counts, Counts { bytes: 17, ..Counts::default() });
}

#[test]
fn status_and_metadata_are_those_of_tf_serving() {
    let counts = compare("GetModelStatus", |record| status(&record.message, MAX));
    assert_eq!(counts, Counts { bytes: 32, ..Counts::default() });
    let counts = compare("GetModelMetadata", |record| metadata(&record.message, MAX));
    assert_eq!(counts, Counts { meaning: 32, ..Counts::default() });
}

#[test]
fn error_bodies_are_those_of_tf_serving() {
    let mut compared = 0;
    for line in GOLDEN.lines() {
        let json: Value = serde_json::from_str(line).unwrap();
        for response in json["responses"].as_array().into_iter().flatten() {
            let Some(body) = response["body"].as_str() else { continue };
            if !body.starts_with("{\n    \"error\": ") {
                continue;
            }
            let text: Value = serde_json::from_str(body).unwrap();
            assert_eq!(String::from_utf8(error(text["error"].as_str().unwrap(), &[])).unwrap(), body);
            compared += 1;
        }
    }
    assert_eq!(compared, 978);
}
