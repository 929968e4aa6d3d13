//! Warm-up records: what TensorFlow Serving runs before a version is available, and what of it
//! would fail (servables/tensorflow/saved_model_warmup_util.cc).
use std::io::Read;

use super::finding::{Actor, Finding, Level};
use crate::repair::report::{Reader as For, refusal};
use crate::repair::{Limits, Mode, ModelPolicy, Request, judge};
use crate::signature::Signatures;
use crate::wire::scan::{Reader, Wire, WireError};
use crate::wire::tfrecord::{self, Records};
use crate::wire::{PredictView, Rope, emit};

const CHECK: &str = "warmup";
/// `kNumMaxWarmupRecords` of TensorFlow Serving.
pub const MAX_RECORDS: usize = 1000;
/// Bytes of one record: TensorFlow cannot read a larger message.
const MAX_RECORD: u64 = 2 << 30;
/// Records that are named one by one.
const MAX_LISTED: usize = 20;

/// The kinds of a `PredictionLog` (prediction_log.proto), by their field.
const KINDS: &[(u32, &str)] = &[
    (2, "classify_log"),
    (3, "regress_log"),
    (4, "multi_inference_log"),
    (5, "session_run_log"),
    (6, "predict_log"),
    (7, "predict_streamed_log"),
];

/// What a record is.
#[derive(Debug, Clone)]
pub enum Logged {
    /// The request of a `PredictLog`.
    Predict(Rope),
    /// Another kind, which is run too.
    Other(&'static str),
    /// A kind that TensorFlow Serving refuses.
    Unsupported(&'static str),
}

/// Reads a serialized `PredictionLog`.
///
/// # Errors
/// If the bytes are no protobuf message.
pub fn decode(record: Vec<u8>) -> Result<Option<Logged>, WireError> {
    let rope = Rope::from(record);
    let mut reader = Reader::new(&rope);
    let mut found = None;
    while let Some(field) = reader.next_field()? {
        let Some((number, kind)) = KINDS.iter().find(|(number, _)| *number == field.number) else { continue };
        field.expect(Wire::Bytes)?;
        found = Some(match number {
            6 => {
                let mut request = Rope::new();
                let mut inner = reader.inner(&field);
                while let Some(field) = inner.next_field()? {
                    if (field.number, field.wire) == (1, Wire::Bytes) {
                        request.append(rope.slice(field.payload));
                    }
                }
                Logged::Predict(request)
            }
            5 | 7 => Logged::Unsupported(kind),
            _ => Logged::Other(kind),
        });
    }
    Ok(found)
}

/// Checks the records of a warm-up file against the signatures.
pub fn check(file: impl Read, signatures: &Signatures) -> Vec<Finding> {
    let mut findings = Vec::new();
    let fail = |what: String| {
        let action = "write the file again, from requests that the model answers (doctor --write-warmup)";
        Finding::new(Level::Fail, CHECK, what)
            .why("a record that fails keeps the version from being loaded")
            .act(Actor::Exporter, action)
    };
    let mut records = Records::new(file, MAX_RECORD);
    let mut seen: Vec<String> = Vec::new();
    let mut count = 0;
    loop {
        let record = match records.next_record() {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(error) => {
                findings.push(fail(error.to_string()));
                break;
            }
        };
        count += 1;
        if count > MAX_RECORDS {
            findings.push(fail(format!("there are more than {MAX_RECORDS} records")));
            break;
        }
        let problem = match decode(record) {
            Err(error) => Some(format!("record {count} is no PredictionLog: {error}")),
            Ok(None) => Some(format!("record {count} is empty")),
            Ok(Some(Logged::Unsupported(kind))) => {
                Some(format!("record {count} is a {kind}, which warm-up does not run"))
            }
            Ok(Some(Logged::Other(_))) => None,
            Ok(Some(Logged::Predict(request))) => match conforms(&request, signatures) {
                Ok(signature) => {
                    if !seen.contains(&signature) {
                        seen.push(signature);
                    }
                    None
                }
                Err(problem) => Some(format!("record {count}: {problem}")),
            },
        };
        findings.extend(problem.filter(|_| findings.len() < MAX_LISTED).map(fail));
    }
    if count == 0 && findings.is_empty() {
        findings.push(missing("the warm-up file has no record"));
    }
    let cold: Vec<&str> = signatures
        .servable()
        .map(|signature| signature.name.as_str())
        .filter(|name| !seen.iter().any(|warm| warm == name))
        .collect();
    if findings.is_empty() && !cold.is_empty() {
        let what = format!("no record warms up {}", cold.join(", "));
        findings.push(Finding::new(Level::Ok, CHECK, what));
    }
    if findings.is_empty() {
        findings.push(Finding::new(Level::Ok, CHECK, format!("{count} records, and each conforms")));
    }
    findings
}

/// Finding that an export has no warm-up.
pub fn missing(what: &'static str) -> Finding {
    Finding::new(Level::Ok, CHECK, what)
        .why("the first requests of a version are slow, and faults in functions show only then")
        .act(
            Actor::Platform,
            "make one from recorded good requests: doctor --saved-model DIR --write-warmup --request FILE",
        )
}

/// Whether a request conforms as it is, without a repair: warm-up does not pass the sidecar.
/// Returns the name of its signature.
///
/// # Errors
/// What is wrong with it, in one line without values.
pub fn conforms(message: &Rope, signatures: &Signatures) -> Result<String, String> {
    let view = PredictView::scan(message).map_err(|error| format!("it is no PredictRequest: {error}"))?;
    let policy = ModelPolicy::default();
    let request = Request {
        message,
        view: &view,
        signatures,
        policy: &policy,
        limits: Limits::default(),
        raised: Some(Mode::Strict),
        text: None,
    };
    let verdict = judge(&request);
    let name = view.model_spec.effective_signature();
    if verdict.problems.is_empty() {
        Ok(name.to_owned())
    } else {
        Err(refusal(&view.model_spec.name, name, &verdict.problems, For::Operator))
    }
}

/// The bytes of a warm-up file with these requests.
pub fn write(requests: &[Rope]) -> Vec<u8> {
    let mut file = Vec::new();
    for request in requests {
        let log = emit::field(6, emit::field(1, request.clone()));
        tfrecord::write(&mut file, &log.to_bytes());
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repair::notation;

    fn signatures() -> Signatures {
        notation::signature("x:float[-1,3] -> y:float[-1,2]").unwrap()
    }

    fn request(text: &str) -> Rope {
        notation::request("m", text).unwrap()
    }

    fn only(file: &[u8]) -> Finding {
        let all = check(file, &signatures());
        let [found] = &all[..] else { panic!("{all:#?}") };
        found.clone()
    }

    #[test]
    fn what_is_written_is_judged_as_requests_are() {
        let good = write(&[request("x:float[2,3]"), request("x:float[1,3]")]);
        assert_eq!(only(&good).what, "2 records, and each conforms");
        let wrong = only(&write(&[request("x:float[2,3]"), request("x:double[2,3]")]));
        assert!(wrong.level == Level::Fail && wrong.what.starts_with("record 2: "), "{}", wrong.what);
        // A repair does not count: warm-up does not pass the sidecar.
        assert_eq!(only(&write(&[request("x:float[3]")])).level, Level::Fail);
        assert!(only(&write(&[request("@nope x:float[1,3]")])).what.contains("nope"));
        assert!(only(b"").what.contains("no record"));
        assert!(only(b"no records").what.contains("record 1"));
        assert!(only(&good[..good.len() - 1]).what.contains("record 2 is cut off"));
    }

    #[test]
    fn kinds_that_tensorflow_serving_refuses_are_found() {
        let mut file = Vec::new();
        tfrecord::write(&mut file, &emit::field(5, Rope::new()).to_bytes());
        assert!(only(&file).what.contains("session_run_log"));
        let mut many = Vec::new();
        for _ in 0..=MAX_RECORDS {
            many.extend(write(&[request("x:float[1,3]")]));
        }
        assert!(only(&many).what.contains("more than 1000"));
    }
}
