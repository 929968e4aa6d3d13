//! A fault as gRPC trailers, within the size that every client accepts.
use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message as _;
use tonic_types::pb;

use super::Fault;
use super::spec::Spec;
use super::text::{MESSAGE_LIMIT, code_value, cut, percent_encode};
use crate::repair::Problem;
use crate::telemetry::events::X_REQUEST_ID;

/// Clients accept at least 8 KiB of metadata (gRPC C++ refuses some above that, and all above 16
/// KiB), and other trailers need room too.
pub(crate) const TRAILERS_LIMIT: usize = 7 * 1024;
const MAX_VIOLATIONS: usize = 8;
const DESCRIPTION_LIMIT: usize = 320;
/// Names that come from clients and models are cut in the details, because they can be of any
/// length.
const METADATA_LIMIT: usize = 128;
const DOMAIN: &str = "tfs-sidecar";

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// The supported message encodings, as `grpc-accept-encoding` lists them.
pub(crate) const ACCEPTED_ENCODINGS: &str = "identity,gzip,deflate";

impl Fault {
    /// The answer's trailers: `grpc-status`, `grpc-message` and, where there are details,
    /// `grpc-status-details-bin`. With a request id, also `x-request-id`.
    pub(crate) fn trailers(&self, request_id: Option<&str>) -> HeaderMap {
        let text = cut(&self.text(), MESSAGE_LIMIT);
        let message = percent_encode(&text);
        let mut trailers = HeaderMap::with_capacity(8);
        trailers.insert(GRPC_STATUS, code_value(self.code()));
        let mut room = TRAILERS_LIMIT.saturating_sub(message.len());
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(message)) {
            trailers.insert(GRPC_MESSAGE, value);
        }
        if let Self::Encoding { .. } = self {
            trailers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED_ENCODINGS));
            room = room.saturating_sub(64);
        }
        if let Some((id, value)) = request_id.and_then(|id| Some((id, HeaderValue::from_str(id).ok()?))) {
            trailers.insert(X_REQUEST_ID, value);
            room = room.saturating_sub(X_REQUEST_ID.as_str().len() + id.len() + 32);
        }
        if let Some(value) = self.details(&text, request_id, room) {
            trailers.insert(GRPC_DETAILS, value);
        }
        trailers
    }

    /// `google.rpc.Status` in at most `room` bytes of base64, with as many violations as fit.
    fn details(&self, text: &str, request_id: Option<&str>, room: usize) -> Option<HeaderValue> {
        let mut violations = match self {
            Self::Refused { problems, .. } => problems.iter().take(MAX_VIOLATIONS).map(violation).collect(),
            _ => Vec::new(),
        };
        let spec = self.spec();
        let mut text = text;
        loop {
            let status = status(&spec, text, request_id, &violations)?;
            let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(status.encode_to_vec());
            if encoded.len() <= room {
                return HeaderValue::from_maybe_shared(Bytes::from(encoded)).ok();
            }
            if violations.pop().is_none() {
                // The escapes in grpc-message took the room; the text is there already.
                if text.is_empty() {
                    return None;
                }
                text = "";
            }
        }
    }
}

/// None if there is nothing to add to the code and the text.
fn status(
    spec: &Spec<'_>,
    text: &str,
    request_id: Option<&str>,
    violations: &[pb::bad_request::FieldViolation],
) -> Option<pb::Status> {
    let mut details = Vec::new();
    if !violations.is_empty() {
        let request = pb::BadRequest { field_violations: violations.to_vec() };
        details.push(any("google.rpc.BadRequest", &request));
    }
    if let Some(reason) = spec.reason {
        let metadata = spec.facts().map(|(key, value)| (key.into(), cut(value, METADATA_LIMIT))).collect();
        let info = pb::ErrorInfo { reason: reason.as_str().into(), domain: DOMAIN.into(), metadata };
        details.push(any("google.rpc.ErrorInfo", &info));
    }
    if let Some(delay) = spec.retry {
        let delay =
            prost_types::Duration { seconds: delay.as_secs() as i64, nanos: delay.subsec_nanos() as i32 };
        details.push(any("google.rpc.RetryInfo", &pb::RetryInfo { retry_delay: Some(delay) }));
    }
    if let Some(id) = request_id {
        let info = pb::RequestInfo { request_id: id.to_owned(), serving_data: String::new() };
        details.push(any("google.rpc.RequestInfo", &info));
    }
    (!details.is_empty()).then(|| pb::Status { code: spec.code as i32, message: text.to_owned(), details })
}

fn violation(problem: &Problem) -> pb::bad_request::FieldViolation {
    let field = if problem.input.is_empty() {
        "model_spec".into()
    } else {
        format!("inputs[\"{}\"]", cut(&problem.input, METADATA_LIMIT))
    };
    pb::bad_request::FieldViolation {
        field,
        description: cut(&problem.for_client().to_string(), DESCRIPTION_LIMIT),
        reason: problem.reason.as_str().into(),
        ..Default::default()
    }
}

fn any(name: &str, message: &impl prost::Message) -> prost_types::Any {
    prost_types::Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;

    use super::*;
    use crate::repair::Reason;

    fn refused(count: usize, length: usize) -> Fault {
        let problems = (0..count)
            .map(|n| Problem::new(Reason::RankTooLow, &format!("input_{n}"), "x%".repeat(length / 2)))
            .collect();
        Fault::Refused {
            model: "m".into(),
            signature: "serving_default".into(),
            problems,
            code: Code::InvalidArgument,
            theirs: None,
        }
    }

    fn size(trailers: &HeaderMap) -> usize {
        trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }

    fn details(trailers: &HeaderMap) -> pb::Status {
        let value = trailers.get(GRPC_DETAILS).unwrap();
        let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(value).unwrap();
        pb::Status::decode(bytes.as_slice()).unwrap()
    }

    #[test]
    fn trailers_fit_the_limits_of_every_client() {
        for (count, length) in [(1, 10), (1, 100_000), (9, 300), (40, 50), (5000, 40), (3, 2000)] {
            let trailers = refused(count, length).trailers(Some(&"i".repeat(128)));
            assert!(size(&trailers) < 8 * 1024 - 256, "{count} of {length}: {}", size(&trailers));
            assert!(details(&trailers).details.iter().any(|any| any.type_url.ends_with("ErrorInfo")));
        }
    }

    #[test]
    fn problems_that_do_not_fit_are_counted() {
        let text = refused(5000, 40).to_string();
        assert!(text.contains(" more problems)"), "{text}");
        assert!(text.len() <= MESSAGE_LIMIT);
    }

    #[test]
    fn a_refusal_names_its_reason_and_its_input() {
        let trailers = refused(2, 20).trailers(None);
        assert_eq!(trailers[GRPC_STATUS], "3");
        let status = details(&trailers);
        let info = pb::ErrorInfo::decode(status.details[1].value.as_slice()).unwrap();
        assert_eq!((info.domain.as_str(), info.reason.as_str()), ("tfs-sidecar", "RANK_TOO_LOW"));
        assert_eq!(info.metadata["input"], "input_0");
        let request = pb::BadRequest::decode(status.details[0].value.as_slice()).unwrap();
        assert_eq!(request.field_violations.len(), 2);
        assert_eq!(request.field_violations[1].field, "inputs[\"input_1\"]");
    }

    #[test]
    fn a_refusal_has_the_id_of_the_request() {
        let trailers = refused(1, 10).trailers(Some("4bf92f35"));
        assert_eq!(trailers[X_REQUEST_ID], "4bf92f35");
        let status = details(&trailers);
        let info = status.details.iter().find(|any| any.type_url.ends_with("RequestInfo")).unwrap();
        assert_eq!(pb::RequestInfo::decode(info.value.as_slice()).unwrap().request_id, "4bf92f35");
        assert!(!refused(1, 10).trailers(None).contains_key(X_REQUEST_ID));
    }

    #[test]
    fn only_the_client_is_told_the_value_that_is_wrong() {
        let mut fault = refused(1, 10);
        if let Fault::Refused { problems, .. } = &mut fault {
            problems[0].value = Some("4321".into());
        }
        let trailers = fault.trailers(None);
        assert!(trailers[GRPC_MESSAGE].to_str().unwrap().contains("value 4321 "), "{trailers:?}");
        let request = pb::BadRequest::decode(details(&trailers).details[0].value.as_slice()).unwrap();
        assert!(request.field_violations[0].description.contains("value 4321 "));
        assert!(!fault.to_string().contains("4321"), "{fault}");
    }

    #[test]
    fn a_full_queue_says_when_to_retry() {
        let fault = Fault::QueueFull { what: "requests", setting: "limits.max_inflight_requests", limit: 4 };
        assert_eq!(
            fault.to_string(),
            "too many requests in flight (limit 4) (QUEUE_FULL; limits.max_inflight_requests)"
        );
        assert_eq!(retry_delay(&fault), Some((0, 100_000_000)));
        let fault = Fault::TooLate {
            waiting: 64,
            wait: Duration::from_millis(250),
            retry: Duration::from_millis(1_500),
        };
        assert_eq!(
            fault.to_string(),
            "estimated queue wait (250 ms, 64 requests ahead) exceeds the deadline (QUEUE_FULL)"
        );
        assert_eq!(retry_delay(&fault), Some((1, 500_000_000)));
        assert_eq!(retry_delay(&Fault::malformed("x")), None);
    }

    fn retry_delay(fault: &Fault) -> Option<(i64, i32)> {
        let status = details(&fault.trailers(None));
        let info = status.details.iter().find(|any| any.type_url.ends_with("RetryInfo"))?;
        let delay = pb::RetryInfo::decode(info.value.as_slice()).unwrap().retry_delay?;
        Some((delay.seconds, delay.nanos))
    }
}
