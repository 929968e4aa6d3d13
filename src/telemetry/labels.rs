//! The closed sets of label values.
use tonic::Code;

/// An enum whose words are label values.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($variant),* }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

labels! {
    /// The called method.
    Method {
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
    /// What became of a request.
    OutcomeLabel {
        Conforming = "conforming",
        Repaired = "repaired",
        Rejected = "rejected",
        Passed = "passed",
        Failed = "failed",
    }
}
labels! {
    /// A part of a request's time.
    Stage { Scan = "scan", Plan = "plan", Apply = "apply", Queue = "queue", Upstream = "upstream" }
}
labels! {
    /// Why a request was sent to TF Serving again, or refused by it.
    Cause { Threads = "threads", BatchQueue = "batch_queue", Connection = "connection" }
}
labels! {
    /// What reading a model's signatures came to.
    RefreshOutcome { Ok = "ok", Failed = "failed" }
}

/// gRPC has 17 codes, 0 to 16.
pub(super) const CODES: usize = 17;

/// The name of a code as gRPC writes it.
pub const fn code_name(code: Code) -> &'static str {
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
