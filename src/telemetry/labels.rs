//! The label values of metrics, as closed sets.
use tonic::Code;

/// An enum whose variants are label values.
macro_rules! labels {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($(#[doc = $about:literal])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $name { $($(#[doc = $about])* $variant),* }

        impl $name {
            #[cfg_attr(not(test), allow(dead_code, reason = "docs/metrics.md lists all words"))]
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),*];

            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// What it means, for docs/metrics.md; empty where the word says it.
            #[cfg(test)]
            #[allow(dead_code, reason = "only some of the sets explain their words")]
            pub(crate) const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($about),*)),* }
            }
        }
    };
}

labels! {
    /// The called method.
    pub(crate) enum Method {
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
    /// The listener that a request came through.
    pub(crate) enum Door {
        Grpc = "grpc",
        Rest = "rest",
    }
}
labels! {
    /// What a panic ended. A panic anywhere else ends the process.
    pub(crate) enum PanickedTask {
        Request = "request",
        Connection = "connection",
        /// A run that requests share: its members fail.
        Run = "run",
        /// The export of traces: requests are no longer traced.
        Traces = "traces",
    }
}
labels! {
    /// How a request ended.
    pub(crate) enum OutcomeLabel {
        /// Forwarded byte for byte.
        Conforming = "conforming",
        /// Forwarded after repairs.
        Repaired = "repaired",
        /// Refused because of what was sent.
        Rejected = "rejected",
        /// Mode observe or a dry run: mode repair would have repaired it.
        WouldRepair = "would_repair",
        /// Mode observe or a dry run: mode repair would have rejected it.
        WouldReject = "would_reject",
        /// Not checked, or forwarded although it does not conform.
        Passed = "passed",
        /// Refused because too much is in flight or queued, or past its deadline. Not a mismatch.
        Overloaded = "overloaded",
        /// No answer, but not because of the request: an outage, a drain, a cancellation.
        Failed = "failed",
    }
}
labels! {
    /// A stage of a request, for its duration.
    pub(crate) enum Stage { Scan = "scan", Plan = "plan", Apply = "apply", Queue = "queue", Upstream = "upstream" }
}
labels! {
    /// Why TF Serving refused a request, or why it was retried.
    pub(crate) enum Cause { Threads = "threads", BatchQueue = "batch_queue", Connection = "connection" }
}
labels! {
    /// What made a run that requests share start.
    pub(crate) enum FlushCause {
        /// No run was in flight.
        Idle = "idle",
        /// It had as many rows as a run may have.
        Full = "full",
        /// Another run came back.
        Returned = "returned",
        /// A request had waited for `max_delay`.
        Delay = "delay",
        /// A member could not wait for the next run.
        Deadline = "deadline",
        /// The sidecar is draining.
        Drain = "drain",
    }
}
labels! {
    /// Why a model or one of its versions is not served.
    pub(crate) enum ModelProblemKind {
        /// TF Serving does not know the model, or has no version of it.
        NotServed = "not_served",
        /// GetModelStatus or GetModelMetadata failed.
        MetadataFailed = "metadata_failed",
        /// The version failed to load.
        LoadFailed = "load_failed",
        /// The version is loading, for a minute or while no other one is served.
        Loading = "loading",
        /// The version does not answer the request of `probe: on`.
        ProbeFailed = "probe_failed",
        /// The request of `probe: on` is not answered yet.
        Probing = "probing",
    }
}
labels! {
    /// Why a client connection was closed at once.
    pub(crate) enum ConnectionLimit {
        /// `limits.max_connections`, or too few file descriptors.
        All = "all",
        /// `limits.max_connections_per_peer`.
        Peer = "peer",
        /// No worker takes it.
        Busy = "busy",
    }
}
labels! {
    /// How a refresh of a model's signatures ended.
    pub(crate) enum RefreshOutcome { Ok = "ok", Failed = "failed" }
}
labels! {
    /// What became of a changed configuration or certificate.
    pub(crate) enum ReloadResult { Applied = "applied", Refused = "refused" }
}

impl Method {
    /// Whether its requests are checked against a signature.
    pub(crate) const fn is_checked(self) -> bool {
        matches!(self, Self::Predict | Self::Classify | Self::Regress | Self::MultiInference)
    }
}

impl OutcomeLabel {
    /// Whether the request did not conform, as far as it was checked.
    pub(crate) const fn is_mismatch(self) -> bool {
        matches!(self, Self::Repaired | Self::Rejected | Self::WouldRepair | Self::WouldReject)
    }
}

labels! {
    /// What became of spans.
    pub(crate) enum SpanResult {
        /// The collector took them.
        Exported = "exported",
        /// Too many waited to be sent.
        Dropped = "dropped",
        /// The collector did not take them, or could not be reached.
        Failed = "failed",
    }
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
