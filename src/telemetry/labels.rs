//! The label values of metrics, as closed sets.
use tonic::Code;

/// An enum whose variants are label values.
macro_rules! labels {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $name { $($variant),* }

        impl $name {
            #[cfg_attr(not(test), allow(dead_code, reason = "docs/metrics.md lists all words"))]
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),*];

            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

labels! {
    /// The called method.
    pub enum Method {
        Predict = "Predict",
        Classify = "Classify",
        Regress = "Regress",
        MultiInference = "MultiInference",
        GetModelMetadata = "GetModelMetadata",
        GetModelStatus = "GetModelStatus",
        HandleReloadConfigRequest = "HandleReloadConfigRequest",
        Other = "other",
    }
}
labels! {
    /// How a request ended.
    pub(crate) enum OutcomeLabel {
        Conforming = "conforming",
        Repaired = "repaired",
        Rejected = "rejected",
        Passed = "passed",
        Failed = "failed",
    }
}
labels! {
    /// A stage of a request, for its duration.
    pub enum Stage { Scan = "scan", Plan = "plan", Apply = "apply", Queue = "queue", Upstream = "upstream" }
}
labels! {
    /// Why TF Serving refused a request, or why it was retried.
    pub(crate) enum Cause { Threads = "threads", BatchQueue = "batch_queue", Connection = "connection" }
}
labels! {
    /// How a refresh of a model's signatures ended.
    pub(crate) enum RefreshOutcome { Ok = "ok", Failed = "failed" }
}

/// The number of gRPC codes, 0 to 16.
pub(super) const CODES: usize = 17;

/// The name of a code, as gRPC spells it.
pub(crate) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
