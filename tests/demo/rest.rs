//! Mistakes of clients that send JSON: through the REST listener, and as TensorFlow Serving's own
//! REST API answers them.
use std::sync::Arc;

use prost::Message as _;
use serde_json::{Value, json};
use tfs_sidecar::proto::tensorflow::serving::{ModelSpec, PredictRequest};
use tfs_sidecar::rest::{read, theirs};
use tfs_sidecar::signature::{DEFAULT_SIGNATURE, Signature, Signatures};
use tonic::Code;

use crate::cases::Expected;
use crate::client::{Answer, Client};
use crate::support::admin::{self, Page};
use crate::support::dense::{CASE, INPUT, MODEL};

/// Characters at each end of a text that are shown.
const MAX_HALF: usize = 75;

pub(crate) struct RestCase {
    pub(crate) sent: &'static str,
    body: String,
    pub(crate) expected: Expected,
}

pub(crate) fn rest_cases() -> Vec<RestCase> {
    use Expected::{Correct, Refused};
    let row = &CASE.input_tensor[..];
    let mut one = serde_json::Map::new();
    one.insert(INPUT.to_owned(), json!(row));
    let case = |sent, body: Value, expected| RestCase { sent, body: body.to_string(), expected };
    vec![
        case("JSON: a flat list of 128", json!({"instances": row}), Correct(&["add_batch_dim"])),
        case("JSON: [[[..]]], a level too deep", json!({"instances": [[row]]}), Correct(&["drop_unit_dims"])),
        case("JSON: named `x`", json!({"instances": [{"x": row}]}), Correct(&["rename_single"])),
        case("JSON: {\"instances\": {..}}, not a list", json!({"instances": one}), Correct(&["list_of_one"])),
        case("JSON: inputs without \"inputs\"", json!({INPUT: [row]}), Correct(&["names_at_top"])),
        case(
            "JSON: {\"b64\": ..} for floats",
            json!({"instances": [{"b64": "AAAAPwAAgD4="}]}),
            Refused("DTYPE_MISMATCH"),
        ),
    ]
}

impl RestCase {
    /// The answer of the REST listener.
    pub(crate) async fn through(&self, addr: &str) -> Answer {
        let page = admin::post_body(addr, &format!("/v1/models/{MODEL}:predict"), &self.body).await;
        let json: Value = serde_json::from_str(&page.body).unwrap_or_default();
        if page.status != 200 {
            let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
            return Answer::Refused {
                code: code(page.status),
                text: text(&json["details"][0]["text"]).or_else(|| text(&json["error"])).unwrap_or_default(),
                reason: text(&json["details"][0]["reason"]),
            };
        }
        let rows = json["predictions"].as_array().or_else(|| json["outputs"].as_array());
        let rows = rows.into_iter().flatten().map(|row| {
            let values = row.as_array().into_iter().flatten().filter_map(Value::as_f64);
            #[allow(clippy::cast_possible_truncation, reason = "the listener printed floats")]
            values.map(|value| value as f32).collect::<Vec<f32>>()
        });
        let probs: Vec<f32> = rows.flatten().collect();
        Answer::of(&probs, headers(&page, "tfs-sidecar-repair"))
    }

    /// The answer of TensorFlow Serving's own REST API: its refusal, or what its model answers to
    /// the tensors that it reads.
    pub(crate) async fn without(&self, client: &mut Client, signatures: &Signatures) -> Answer {
        let body = self.body.as_bytes();
        if let Some(refusal) = theirs::refusal(body, signatures) {
            return Answer::Refused {
                code: Code::from_i32(refusal.code.number()),
                text: shortened(&refusal.lossy()),
                reason: None,
            };
        }
        let options = read::Options {
            integral_floats: false,
            string_numbers: false,
            bool_numbers: false,
            max_elements: u64::MAX,
            max_bytes: u64::MAX,
            as_served: true,
        };
        let name = |name: &str| if name.is_empty() { DEFAULT_SIGNATURE } else { name }.to_owned();
        let choose = |sent: &str| -> Option<Arc<Signature>> { signatures.get(&name(sent)).cloned() };
        let read = read::read(body, &choose, &options).expect("TensorFlow Serving does not refuse it");
        let spec = ModelSpec { name: MODEL.to_owned(), ..ModelSpec::default() }.encode_to_vec();
        let message = read.message(&spec).to_bytes();
        client.predict(&PredictRequest::decode(message).expect("it was just encoded")).await
    }
}

/// The text on one line, without the middle of a long quote from the body.
fn shortened(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= 2 * MAX_HALF {
        return text;
    }
    let (begin, end) = (&chars[..MAX_HALF], &chars[chars.len() - MAX_HALF..]);
    format!("{}... {}", begin.iter().collect::<String>(), end.iter().collect::<String>())
}

fn headers(page: &Page, wanted: &str) -> Vec<String> {
    let lines = page.head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.to_owned()).collect()
}

/// The gRPC code behind a status.
fn code(status: u16) -> Code {
    match status {
        400 => Code::InvalidArgument,
        404 => Code::NotFound,
        413 | 429 => Code::ResourceExhausted,
        501 => Code::Unimplemented,
        503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        _ => Code::Unknown,
    }
}
