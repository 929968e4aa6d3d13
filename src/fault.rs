//! Every way in which a request can fail here, and what the client is told: gRPC code, one line of
//! text, machine-readable details.
//!
//! This is the only place that knows codes. Answers of TF Serving itself are relayed unread and
//! never become a `Fault`.
#[cfg(test)]
mod docs;
mod text;

use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message as _;
use tonic::Code;
use tonic_types::pb;

use text::{MESSAGE_LIMIT, cut, fit_problems};
pub use text::{code_value, percent_decode, percent_encode};

use crate::repair::{Problem, Reason};

/// A client's metadata may hold 8 KiB (gRPC C++ refuses more by chance, and all of it above 16
/// KiB); other trailers need room too.
pub const TRAILERS_LIMIT: usize = 7 * 1024;
const VIOLATIONS_LIMIT: usize = 8;
const DESCRIPTION_LIMIT: usize = 320;
/// Names that come from a client or a model are cut in the details: they have no bound of their
/// own.
const METADATA_LIMIT: usize = 128;
const DOMAIN: &str = "tfs-sidecar";

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Message encodings that are understood, as `grpc-accept-encoding` names them.
pub const ACCEPTED_ENCODINGS: &str = "identity,gzip,deflate";

/// Why a request is not answered by TF Serving.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    /// The repair engine found problems that it could or may not mend.
    #[error("{}", fit_problems(model, signature, problems))]
    Refused { model: String, signature: String, problems: Vec<Problem>, code: Code },
    #[error("malformed request: {problem}")]
    Malformed { problem: String },
    /// The text of TF Serving for a model or version that it does not serve.
    #[error("{text}")]
    ModelUnknown { model: String, text: String },
    #[error(
        "model '{model}' is not among the models of this sidecar (MODEL_UNKNOWN; undeclared models are refused)"
    )]
    ModelUndeclared { model: String },
    #[error("message of {found} bytes, expected at most {limit} (TOO_LARGE; limits.max_message_bytes)")]
    TooLarge { found: u64, limit: u64 },
    #[error("{what} already in flight, expected at most {limit} (QUEUE_FULL; {setting})")]
    QueueFull { what: &'static str, setting: &'static str, limit: u64 },
    #[error(
        "{waiting} requests already wait for the upstream, expected at most {limit} (QUEUE_FULL; limits.max_queued_requests)"
    )]
    QueueLong { waiting: usize, limit: usize, retry: Duration },
    /// Shed at once, rather than let wait in vain.
    #[error(
        "{waiting} requests already wait for the upstream: the turn would come in about {} ms, after the deadline (QUEUE_FULL)",
        wait.as_millis()
    )]
    TooLate { waiting: usize, wait: Duration, retry: Duration },
    #[error("deadline exceeded while {during} (DEADLINE)")]
    Deadline { during: &'static str },
    #[error("the sidecar is draining: send the request to another instance (DRAINING)")]
    Draining,
    #[error("upstream {address} is unavailable: {cause} (UPSTREAM_UNAVAILABLE)")]
    UpstreamUnavailable { address: String, cause: String },
    /// TF Serving ended the call without an answer of its own.
    #[error("upstream {address} reset the call: {cause}")]
    UpstreamReset { address: String, cause: String, code: Code },
    /// What TF Serving answered to a question that was asked for the request.
    #[error("{message}")]
    Upstream { code: Code, message: String },
    #[error("message encoding `{found}` is not supported, expected one of {ACCEPTED_ENCODINGS}")]
    Encoding { found: String },
    #[error(
        "HandleReloadConfigRequest is refused here: TF Serving does not authenticate it (allow_reload: true lets it through)"
    )]
    ReloadForbidden,
    #[error("internal error of the sidecar: {problem}")]
    Internal { problem: String },
}

impl Fault {
    pub fn malformed(problem: impl Into<String>) -> Self {
        Self::Malformed { problem: problem.into() }
    }

    pub fn code(&self) -> Code {
        match self {
            Self::Refused { code, .. } | Self::UpstreamReset { code, .. } | Self::Upstream { code, .. } => {
                *code
            }
            Self::Malformed { .. } => Code::InvalidArgument,
            Self::ModelUnknown { .. } | Self::ModelUndeclared { .. } => Code::NotFound,
            Self::TooLarge { .. }
            | Self::QueueFull { .. }
            | Self::QueueLong { .. }
            | Self::TooLate { .. } => Code::ResourceExhausted,
            Self::Deadline { .. } => Code::DeadlineExceeded,
            Self::Draining | Self::UpstreamUnavailable { .. } => Code::Unavailable,
            Self::Encoding { .. } => Code::Unimplemented,
            Self::ReloadForbidden => Code::PermissionDenied,
            Self::Internal { .. } => Code::Internal,
        }
    }

    /// The metric label and `ErrorInfo.reason`; none for what is not one of the closed set.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused { problems, .. } => problems.first().map(|problem| problem.reason),
            Self::Malformed { .. } => Some(Reason::Malformed),
            Self::ModelUnknown { .. } | Self::ModelUndeclared { .. } => Some(Reason::ModelUnknown),
            Self::TooLarge { .. } => Some(Reason::TooLarge),
            Self::QueueFull { .. } | Self::QueueLong { .. } | Self::TooLate { .. } => Some(Reason::QueueFull),
            Self::Deadline { .. } => Some(Reason::Deadline),
            Self::Draining => Some(Reason::Draining),
            Self::UpstreamUnavailable { .. } => Some(Reason::UpstreamUnavailable),
            Self::UpstreamReset { .. }
            | Self::Upstream { .. }
            | Self::Encoding { .. }
            | Self::ReloadForbidden
            | Self::Internal { .. } => None,
        }
    }

    /// Whether the request was refused on its merits, rather than failed for reasons that are not
    /// its own.
    pub fn is_rejection(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::Malformed { .. }
            | Self::ModelUnknown { .. }
            | Self::ModelUndeclared { .. }
            | Self::TooLarge { .. }
            | Self::QueueFull { .. }
            | Self::QueueLong { .. }
            | Self::TooLate { .. }
            | Self::Draining
            | Self::Encoding { .. }
            | Self::ReloadForbidden => true,
            Self::Deadline { .. }
            | Self::UpstreamUnavailable { .. }
            | Self::UpstreamReset { .. }
            | Self::Upstream { .. }
            | Self::Internal { .. } => false,
        }
    }

    /// When a retry is worth while.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull { .. } => Some(Duration::from_millis(100)),
            Self::QueueLong { retry, .. } | Self::TooLate { retry, .. } => Some(*retry),
            Self::Draining | Self::UpstreamUnavailable { .. } => Some(Duration::from_secs(1)),
            Self::Refused { .. }
            | Self::Malformed { .. }
            | Self::ModelUnknown { .. }
            | Self::ModelUndeclared { .. }
            | Self::TooLarge { .. }
            | Self::Deadline { .. }
            | Self::UpstreamReset { .. }
            | Self::Upstream { .. }
            | Self::Encoding { .. }
            | Self::ReloadForbidden
            | Self::Internal { .. } => None,
        }
    }

    /// Facts for programs: keys of `ErrorInfo.metadata`.
    fn facts(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Refused { model, signature, problems, .. } => {
                let mut facts = vec![("model", model.as_str()), ("signature", signature.as_str())];
                if let Some(problem) = problems.first().filter(|problem| !problem.input.is_empty()) {
                    facts.push(("input", problem.input.as_str()));
                }
                facts
            }
            Self::ModelUnknown { model, .. } | Self::ModelUndeclared { model } => vec![("model", model)],
            Self::UpstreamUnavailable { address, .. } | Self::UpstreamReset { address, .. } => {
                vec![("upstream", address)]
            }
            Self::QueueFull { setting, .. } => vec![("setting", setting)],
            Self::QueueLong { .. } => vec![("setting", "limits.max_queued_requests")],
            Self::Malformed { .. }
            | Self::TooLarge { .. }
            | Self::TooLate { .. }
            | Self::Deadline { .. }
            | Self::Draining
            | Self::Upstream { .. }
            | Self::Encoding { .. }
            | Self::ReloadForbidden
            | Self::Internal { .. } => Vec::new(),
        }
    }

    /// The trailers of the answer: `grpc-status`, `grpc-message` and, where there is more to say,
    /// `grpc-status-details-bin`.
    pub fn trailers(&self) -> HeaderMap {
        let text = cut(&self.to_string(), MESSAGE_LIMIT);
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
        if let Some(value) = self.details(&text, room) {
            trailers.insert(GRPC_DETAILS, value);
        }
        trailers
    }

    /// `google.rpc.Status` in base64 of at most `room` bytes: as many violations as fit.
    fn details(&self, text: &str, room: usize) -> Option<HeaderValue> {
        let mut violations = match self {
            Self::Refused { problems, .. } => problems.iter().take(VIOLATIONS_LIMIT).map(violation).collect(),
            _ => Vec::new(),
        };
        let mut text = text;
        loop {
            let status = self.status(text, &violations)?;
            let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(status.encode_to_vec());
            if encoded.len() <= room {
                return HeaderValue::from_maybe_shared(Bytes::from(encoded)).ok();
            }
            if violations.pop().is_none() {
                // A text that needs many escapes has taken the room; it is in grpc-message.
                if text.is_empty() {
                    return None;
                }
                text = "";
            }
        }
    }

    fn status(&self, text: &str, violations: &[pb::bad_request::FieldViolation]) -> Option<pb::Status> {
        let mut details = Vec::new();
        if !violations.is_empty() {
            let request = pb::BadRequest { field_violations: violations.to_vec() };
            details.push(any("google.rpc.BadRequest", &request));
        }
        if let Some(reason) = self.reason() {
            let metadata = self
                .facts()
                .into_iter()
                .map(|(key, value)| (key.into(), cut(value, METADATA_LIMIT)))
                .collect();
            let info = pb::ErrorInfo { reason: reason.as_str().into(), domain: DOMAIN.into(), metadata };
            details.push(any("google.rpc.ErrorInfo", &info));
        }
        if let Some(delay) = self.retry_after() {
            let delay =
                prost_types::Duration { seconds: delay.as_secs() as i64, nanos: delay.subsec_nanos() as i32 };
            details.push(any("google.rpc.RetryInfo", &pb::RetryInfo { retry_delay: Some(delay) }));
        }
        (!details.is_empty()).then(|| pb::Status {
            code: self.code() as i32,
            message: text.to_owned(),
            details,
        })
    }
}

/// The gRPC code of problems that the engine found, by the reason of the first: `spec` "Codes".
/// `predict` tells Predict from Classify and Regress, which TF Serving answers differently for an
/// unknown signature.
pub fn code_of(reason: Reason, predict: bool) -> Code {
    match reason {
        Reason::ModelUnknown => Code::NotFound,
        Reason::SignatureUnknown if predict => Code::FailedPrecondition,
        Reason::TooLarge | Reason::QueueFull => Code::ResourceExhausted,
        Reason::Deadline => Code::DeadlineExceeded,
        Reason::Draining | Reason::UpstreamUnavailable => Code::Unavailable,
        Reason::SignatureUnknown
        | Reason::RankTooLow
        | Reason::RankTooHigh
        | Reason::DimMismatch
        | Reason::ShapeMismatch
        | Reason::ShapeAmbiguous
        | Reason::ShapeNotConcrete
        | Reason::BatchMismatch
        | Reason::StaticBatch
        | Reason::DtypeMismatch
        | Reason::CastOutOfRange
        | Reason::CastInexact
        | Reason::ContentSize
        | Reason::ValueCount
        | Reason::ValueField
        | Reason::StringInContent
        | Reason::NameUnknown
        | Reason::NameAmbiguous
        | Reason::InputMissing
        | Reason::InputExtra
        | Reason::OutputUnknown
        | Reason::NotAnExample
        | Reason::Malformed => Code::InvalidArgument,
    }
}

fn violation(problem: &Problem) -> pb::bad_request::FieldViolation {
    let field = if problem.input.is_empty() {
        "model_spec".into()
    } else {
        format!("inputs[\"{}\"]", cut(&problem.input, METADATA_LIMIT))
    };
    pb::bad_request::FieldViolation {
        field,
        description: cut(&problem.to_string(), DESCRIPTION_LIMIT),
        reason: problem.reason.as_str().into(),
        ..Default::default()
    }
}

fn any(name: &str, message: &impl prost::Message) -> prost_types::Any {
    prost_types::Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(count: usize, length: usize) -> Fault {
        let problems = (0..count)
            .map(|n| Problem::new(Reason::RankTooLow, &format!("input_{n}"), "x%".repeat(length / 2)))
            .collect();
        Fault::Refused {
            model: "m".into(),
            signature: "serving_default".into(),
            problems,
            code: Code::InvalidArgument,
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
    fn trailers_fit_whatever_the_request() {
        for (count, length) in [(1, 10), (1, 100_000), (9, 300), (40, 50), (5000, 40), (3, 2000)] {
            let trailers = refused(count, length).trailers();
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
        let trailers = refused(2, 20).trailers();
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
    fn a_full_queue_says_when_to_come_back() {
        let fault = Fault::QueueFull { what: "requests", setting: "limits.max_inflight_requests", limit: 4 };
        let status = details(&fault.trailers());
        assert!(status.details.iter().any(|any| any.type_url.ends_with("RetryInfo")));
        assert_eq!(
            fault.to_string(),
            "requests already in flight, expected at most 4 (QUEUE_FULL; limits.max_inflight_requests)"
        );
    }

    #[test]
    fn codes_of_reasons_are_those_of_tf_serving() {
        assert_eq!(code_of(Reason::SignatureUnknown, true), Code::FailedPrecondition);
        assert_eq!(code_of(Reason::SignatureUnknown, false), Code::InvalidArgument);
        assert_eq!(code_of(Reason::ModelUnknown, true), Code::NotFound);
        assert_eq!(code_of(Reason::CastInexact, true), Code::InvalidArgument);
    }
}
