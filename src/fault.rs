//! Every way a request can fail in the sidecar, specified once: code, HTTP status, reason, blame
//! and retry advice.
//!
//! This is the only place that knows status codes. Errors that TF Serving answers itself are
//! relayed as they are and never become a `Fault`.
#[cfg(test)]
mod docs;
mod spec;
mod text;
mod trailers;

use std::time::Duration;

use http::StatusCode;
use tonic::Code;

use spec::{Blame, Spec};
pub(crate) use spec::{code_of, http_status};
use text::fit_problems;
pub(crate) use text::{percent_decode, percent_encode};
pub(crate) use trailers::{ACCEPTED_ENCODINGS, GRPC_MESSAGE, TRAILERS_LIMIT};

/// The encodings of bodies over HTTP, as `accept-encoding` lists them.
pub(crate) const BODY_ENCODINGS: &str = "gzip, deflate, zstd";

use crate::repair::report::Reader;
use crate::repair::{Problem, Reason};
use crate::telemetry::metrics::OutcomeLabel;

/// Why a request gets no answer from TF Serving. `Display` has no tensor value, so it may be
/// logged; [`Fault::text`] is what the client is told.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    /// The request does not match the signature, and no repair may fix it.
    #[error("{}", fit_problems(model, signature, problems, Reader::Operator))]
    Refused {
        model: String,
        signature: String,
        problems: Vec<Problem>,
        code: Code,
        /// What TF Serving's REST API says of the same request.
        theirs: Option<Box<Theirs>>,
    },
    #[error("malformed request: {problem}")]
    Malformed { problem: String },
    /// The request names no model; `text` is TF Serving's own message for that.
    #[error("{text}")]
    NoModel { text: &'static str },
    /// TF Serving does not serve the model or version; `text` is its own message.
    #[error("{text}")]
    ModelUnknown { model: String, text: String },
    #[error(
        "model '{model}' is not in the sidecar's configuration (MODEL_UNKNOWN; undeclared_models: refuse)"
    )]
    ModelUndeclared { model: String },
    #[error("message of {size} bytes is too large (limit {limit}) (TOO_LARGE; {setting})")]
    TooLarge { size: u64, limit: u64, setting: &'static str },
    /// What the sidecar makes of a request is too large: its decompressed or repaired message.
    #[error("{what} would take {size} bytes (limit {limit}) (TOO_LARGE; {setting})")]
    Outgrown { what: &'static str, size: u64, limit: u64, setting: &'static str },
    #[error("too many {what} in flight (limit {limit}) (QUEUE_FULL; {setting})")]
    QueueFull { what: &'static str, setting: &'static str, limit: u64 },
    #[error(
        "this client has {held} of at most {limit} {what} in flight, more than its share while others need them (QUEUE_FULL; {setting})"
    )]
    ShareFull { what: &'static str, setting: &'static str, limit: u64, held: u64 },
    /// The client sends its request or reads the answer too slowly, or not at all.
    #[error("{what} ({setting})")]
    ClientStalled { what: &'static str, setting: &'static str },
    #[error(
        "too many requests waiting for the upstream ({waiting}, limit {limit}) (QUEUE_FULL; limits.max_queued_requests)"
    )]
    QueueLong { waiting: usize, limit: usize, retry: Duration },
    /// Rejected at once, because waiting would be in vain.
    #[error(
        "estimated queue wait ({} ms, {waiting} requests ahead) exceeds the deadline (QUEUE_FULL)",
        wait.as_millis()
    )]
    TooLate { waiting: usize, wait: Duration, retry: Duration },
    #[error(
        "too many rows waiting for a run of the model ({rows}, limit {limit}) (QUEUE_FULL; batching.max_queue_rows)"
    )]
    RowsFull { rows: u64, limit: u64, retry: Duration },
    /// Rejected at once, because no run can be answered in time.
    #[error("estimated time until a run of the model is answered ({} ms) exceeds the deadline (QUEUE_FULL)", wait.as_millis())]
    RunTooLate { wait: Duration, retry: Duration },
    #[error("deadline exceeded while {during} (DEADLINE)")]
    Deadline { during: &'static str },
    #[error("the sidecar is draining; send the request to another instance (DRAINING)")]
    Draining,
    #[error("upstream {address} is unavailable: {cause} (UPSTREAM_UNAVAILABLE)")]
    UpstreamUnavailable { address: String, cause: String },
    /// The connection ended after the call was sent and before its answer was complete.
    #[error(
        "the connection to upstream {address} ended while the request was running: {cause}; it was not sent again, because it may have run (UPSTREAM_UNAVAILABLE)"
    )]
    UpstreamLost { address: String, cause: String },
    /// TF Serving reset the stream without sending a status.
    #[error("upstream {address} reset the stream: {cause}")]
    UpstreamReset { address: String, cause: String, code: Code },
    /// The error that TF Serving returned for a call that the sidecar made to serve the request.
    #[error("{message}")]
    Upstream { code: Code, message: String },
    /// More metadata than TF Serving accepts; the text begins as its own.
    #[error(
        "received metadata size exceeds hard limit ({size} vs. {limit}): TF Serving takes no more (send fewer or shorter headers)"
    )]
    MetadataTooLarge { size: usize, limit: u32 },
    #[error("message encoding `{name}` is not supported (supported: {ACCEPTED_ENCODINGS})")]
    Encoding { name: String },
    /// Over HTTP.
    #[error("content-encoding `{name}` is not supported (supported: {BODY_ENCODINGS})")]
    BodyEncoding { name: String },
    #[error(
        "HandleReloadConfigRequest is not forwarded, because TF Serving does not authenticate it (allow_reload: on forwards it)"
    )]
    ReloadForbidden,
    #[error("internal error in the sidecar: {problem}")]
    Internal { problem: String },
}

/// The answer of TF Serving's REST API to a request that it refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Theirs {
    pub code: Code,
    pub text: String,
}

impl Fault {
    pub(crate) fn malformed(problem: impl Into<String>) -> Self {
        Self::Malformed { problem: problem.into() }
    }

    /// The text for the client, with the values that are wrong.
    fn text(&self) -> String {
        match self {
            Self::Refused { model, signature, problems, .. } => {
                fit_problems(model, signature, problems, Reader::Client)
            }
            _ => self.to_string(),
        }
    }

    /// The status of the same error over HTTP.
    pub(crate) fn http_status(&self) -> StatusCode {
        match self {
            Self::Refused { theirs: Some(theirs), .. } => http_status(theirs.code),
            _ => self.spec().http,
        }
    }

    /// How long to wait before sending the request again, if that may help.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.spec().retry
    }

    /// The text over HTTP: TF Serving's own, if it has one for the same request.
    pub(crate) fn http_text(&self) -> String {
        match self {
            Self::Refused { theirs: Some(theirs), .. } => theirs.text.clone(),
            _ => self.text(),
        }
    }

    pub(crate) fn code(&self) -> Code {
        self.spec().code
    }

    /// The metric label and `ErrorInfo.reason`; none for faults outside the closed set.
    pub(crate) fn reason(&self) -> Option<Reason> {
        self.spec().reason
    }

    /// How the request is counted.
    pub(crate) fn outcome(&self) -> OutcomeLabel {
        self.spec().outcome()
    }

    /// Whether the sidecar refuses the request, because of what was sent or because of load.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.outcome(), OutcomeLabel::Rejected | OutcomeLabel::Overloaded)
    }

    /// A name that the refusal is about, such as `model`, as the client sent it.
    pub(crate) fn fact(&self, key: &str) -> Option<&str> {
        self.spec().facts().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Everything that depends on the variant, apart from its text: the rest of the program reads
    /// it from here.
    fn spec(&self) -> Spec<'_> {
        match self {
            Self::Refused { model, signature, problems, code, .. } => {
                let spec = match problems.first() {
                    Some(problem) if problem.input.is_empty() => Spec::of(problem.reason),
                    Some(problem) => Spec::of(problem.reason).fact("input", &problem.input),
                    None => Spec::new(*code, Blame::Client),
                };
                spec.code(*code).fact("model", model).fact("signature", signature)
            }
            Self::Malformed { .. } | Self::NoModel { .. } => Spec::of(Reason::Malformed),
            Self::ModelUnknown { model, .. } | Self::ModelUndeclared { model } => {
                Spec::of(Reason::ModelUnknown).fact("model", model)
            }
            Self::TooLarge { .. } => Spec::of(Reason::TooLarge),
            Self::Outgrown { setting, .. } => Spec::of(Reason::TooLarge).fact("setting", setting),
            Self::QueueFull { setting, .. } | Self::ShareFull { setting, .. } => {
                Spec::of(Reason::QueueFull).fact("setting", setting)
            }
            Self::ClientStalled { setting, .. } => {
                Spec::new(Code::DeadlineExceeded, Blame::Client).fact("setting", setting)
            }
            Self::QueueLong { retry, .. } => {
                Spec::of(Reason::QueueFull).retry_after(*retry).fact("setting", "limits.max_queued_requests")
            }
            Self::RowsFull { retry, .. } => {
                Spec::of(Reason::QueueFull).retry_after(*retry).fact("setting", "batching.max_queue_rows")
            }
            Self::TooLate { retry, .. } | Self::RunTooLate { retry, .. } => {
                Spec::of(Reason::QueueFull).retry_after(*retry)
            }
            Self::Deadline { .. } => Spec::of(Reason::Deadline),
            Self::Draining => Spec::of(Reason::Draining),
            Self::UpstreamUnavailable { address, .. } | Self::UpstreamLost { address, .. } => {
                Spec::of(Reason::UpstreamUnavailable).fact("upstream", address)
            }
            Self::UpstreamReset { code, .. } | Self::Upstream { code, .. } => {
                Spec::new(*code, Blame::Upstream)
            }
            Self::MetadataTooLarge { .. } => Spec::new(Code::ResourceExhausted, Blame::Client),
            Self::Encoding { .. } => Spec::new(Code::Unimplemented, Blame::Client),
            Self::BodyEncoding { .. } => {
                Spec::new(Code::Unimplemented, Blame::Client).http(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            Self::ReloadForbidden => Spec::new(Code::PermissionDenied, Blame::Operator),
            Self::Internal { .. } => Spec::new(Code::Internal, Blame::Sidecar),
        }
    }
}
