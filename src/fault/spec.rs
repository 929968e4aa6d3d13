//! What a fault means for clients: code, HTTP status, blame and retry advice, declared once for
//! each reason.
use std::time::Duration;

use http::StatusCode;
use tonic::Code;

use crate::repair::Reason;
use crate::telemetry::metrics::OutcomeLabel;

/// Whose fault it is, which is who can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The author of the client.
    Client,
    /// The operator of the sidecar: a limit, a setting or a shutdown.
    Operator,
    /// TF Serving, or the network on the path to it.
    Upstream,
    /// The sidecar itself: a bug.
    Sidecar,
}

/// Everything about a fault except its text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec<'a> {
    pub code: Code,
    /// The status of the same error over HTTP.
    pub http: StatusCode,
    pub reason: Option<Reason>,
    pub blame: Blame,
    /// How long to wait before sending the same request again; none where that would not help.
    pub retry: Option<Duration>,
    /// Facts for programs: keys and values of `ErrorInfo.metadata`.
    facts: [Option<(&'static str, &'a str)>; 3],
}

/// Long enough for some of the requests in flight to end.
const AFTER_OVERLOAD: Duration = Duration::from_millis(100);
/// Long enough to find another instance, or to connect again.
const AFTER_OUTAGE: Duration = Duration::from_secs(1);

impl<'a> Spec<'a> {
    /// For a fault outside the closed set of reasons.
    pub(super) fn new(code: Code, blame: Blame) -> Self {
        Self { code, http: http_status(code), reason: None, blame, retry: None, facts: [None; 3] }
    }

    /// Declares each reason. The codes are those of TF Serving where it refuses the same request.
    pub(super) fn of(reason: Reason) -> Self {
        let spec = match reason {
            Reason::ModelUnknown => Self::new(Code::NotFound, Blame::Client),
            // Predict's; see `code_of`.
            Reason::SignatureUnknown => Self::new(Code::FailedPrecondition, Blame::Client),
            // 413, not the 429 of the code: HTTP clients send a request again after a 429.
            Reason::TooLarge => Self {
                http: StatusCode::PAYLOAD_TOO_LARGE,
                ..Self::new(Code::ResourceExhausted, Blame::Client)
            },
            Reason::QueueFull => {
                Self::new(Code::ResourceExhausted, Blame::Operator).retry_after(AFTER_OVERLOAD)
            }
            Reason::Draining => Self::new(Code::Unavailable, Blame::Operator).retry_after(AFTER_OUTAGE),
            Reason::Deadline => Self::new(Code::DeadlineExceeded, Blame::Upstream),
            Reason::UpstreamUnavailable => {
                Self::new(Code::Unavailable, Blame::Upstream).retry_after(AFTER_OUTAGE)
            }
            Reason::RankTooLow
            | Reason::RankTooHigh
            | Reason::DimMismatch
            | Reason::ShapeMismatch
            | Reason::ShapeAmbiguous
            | Reason::ShapeNotConcrete
            | Reason::BatchMismatch
            | Reason::IntegerForFloat
            | Reason::NotTransformed
            | Reason::StaticBatch
            | Reason::DtypeMismatch
            | Reason::CastOutOfRange
            | Reason::CastInexact
            | Reason::ContentSize
            | Reason::ValueCount
            | Reason::ValueField
            | Reason::StringInContent
            | Reason::Ragged
            | Reason::NameUnknown
            | Reason::NameAmbiguous
            | Reason::InputMissing
            | Reason::InputExtra
            | Reason::OutputUnknown
            | Reason::NotAnExample
            | Reason::FarOutOfRange
            | Reason::NotFinite
            | Reason::UnknownCategory
            | Reason::EmptyText
            | Reason::Shifted
            | Reason::Malformed => Self::new(Code::InvalidArgument, Blame::Client),
        };
        Self { reason: Some(reason), ..spec }
    }

    /// Another code than the reason's, where the called method decides it.
    pub(super) fn code(self, code: Code) -> Self {
        if code == self.code { self } else { Self { code, http: http_status(code), ..self } }
    }

    /// Another status than the code's.
    pub(super) fn http(self, http: StatusCode) -> Self {
        Self { http, ..self }
    }

    pub(super) fn retry_after(self, delay: Duration) -> Self {
        Self { retry: Some(delay), ..self }
    }

    /// Adds a fact; there is room for three.
    pub(super) fn fact(mut self, key: &'static str, value: &'a str) -> Self {
        let free = self.facts.iter_mut().find(|fact| fact.is_none());
        debug_assert!(free.is_some(), "no room for `{key}`");
        if let Some(free) = free {
            *free = Some((key, value));
        }
        self
    }

    /// How the request is counted. Only what its sender has to change is a rejection.
    pub(super) fn outcome(&self) -> OutcomeLabel {
        match (self.reason, self.blame) {
            (Some(Reason::QueueFull | Reason::Deadline), _) => OutcomeLabel::Overloaded,
            (Some(Reason::Draining), _) => OutcomeLabel::Failed,
            (_, Blame::Client | Blame::Operator) => OutcomeLabel::Rejected,
            (_, Blame::Upstream | Blame::Sidecar) => OutcomeLabel::Failed,
        }
    }

    pub(super) fn facts(&self) -> impl Iterator<Item = (&'static str, &'a str)> {
        self.facts.into_iter().flatten()
    }
}

/// The gRPC code of a request that is refused for `reason`. `predict` tells Predict from the other
/// methods, for which TF Serving has another code when the signature is unknown.
pub(crate) fn code_of(reason: Reason, predict: bool) -> Code {
    if reason == Reason::SignatureUnknown && !predict {
        return Code::InvalidArgument;
    }
    Spec::of(reason).code
}

/// The HTTP status for a gRPC code, as in `ToHTTPStatusCode` of TensorFlow Serving's
/// `model_servers/http_server.cc`.
pub(crate) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // 499, client closed request: nginx's number, which is in no standard.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_reasons_are_those_of_tf_serving() {
        assert_eq!(code_of(Reason::SignatureUnknown, true), Code::FailedPrecondition);
        assert_eq!(code_of(Reason::SignatureUnknown, false), Code::InvalidArgument);
        assert_eq!(code_of(Reason::ModelUnknown, true), Code::NotFound);
        assert_eq!(code_of(Reason::CastInexact, true), Code::InvalidArgument);
    }

    #[test]
    fn http_statuses_are_those_of_tf_serving() {
        let statuses: Vec<u16> = (0..17).map(|code| http_status(Code::from_i32(code)).as_u16()).collect();
        let expected = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
        assert_eq!(statuses, expected);
    }

    #[test]
    fn only_a_message_that_is_too_large_has_another_http_status_than_its_code() {
        for reason in Reason::ALL {
            let spec = Spec::of(*reason);
            assert_eq!(spec.reason, Some(*reason));
            assert_eq!(spec.http != http_status(spec.code), *reason == Reason::TooLarge, "{reason}");
        }
        assert_eq!(Spec::of(Reason::TooLarge).http.as_u16(), 413);
    }

    #[test]
    fn another_code_brings_its_http_status() {
        let spec = Spec::of(Reason::ModelUnknown).code(Code::Internal);
        assert_eq!((spec.code, spec.http.as_u16()), (Code::Internal, 500));
        let same = Spec::of(Reason::TooLarge).code(Code::ResourceExhausted);
        assert_eq!(same.http.as_u16(), 413, "the reason's own");
    }
}
