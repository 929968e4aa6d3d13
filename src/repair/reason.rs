//! The closed set of reasons for which a request is refused: a metric label, `ErrorInfo.reason`, and the order of the stages.
use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $label:literal,)*) => {
        /// Why a request does not conform or is not served.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The label, as clients and dashboards see it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
    };
}

reasons! {
    /// Fewer dimensions than declared.
    RankTooLow = "RANK_TOO_LOW",
    /// More dimensions than declared.
    RankTooHigh = "RANK_TOO_HIGH",
    /// One dimension differs.
    DimMismatch = "DIM_MISMATCH",
    /// Several dimensions differ.
    ShapeMismatch = "SHAPE_MISMATCH",
    /// A rule found two shapes that conform.
    ShapeAmbiguous = "SHAPE_AMBIGUOUS",
    /// A size is negative or the rank was sent as unknown.
    ShapeNotConcrete = "SHAPE_NOT_CONCRETE",
    /// Inputs have different row counts.
    BatchMismatch = "BATCH_MISMATCH",
    /// Only dim 0 differs, and the model fixes it above 1.
    StaticBatch = "STATIC_BATCH",
    /// Another dtype, and no cast keeps the values.
    DtypeMismatch = "DTYPE_MISMATCH",
    /// A value is outside the declared dtype's range.
    CastOutOfRange = "CAST_OUT_OF_RANGE",
    /// A value is in range but not representable.
    CastInexact = "CAST_INEXACT",
    /// `tensor_content` has another length than shape and dtype say.
    ContentSize = "CONTENT_SIZE",
    /// A typed list has another number of values than the shape says.
    ValueCount = "VALUE_COUNT",
    /// The values are in a field that TensorFlow does not read for the dtype.
    ValueField = "VALUE_FIELD",
    /// A string tensor's `tensor_content` is not in TensorFlow's encoding.
    StringInContent = "STRING_IN_CONTENT",
    /// An input has a name that the signature does not know, while another is missing.
    NameUnknown = "NAME_UNKNOWN",
    /// A name could mean two inputs.
    NameAmbiguous = "NAME_AMBIGUOUS",
    /// An input was left out.
    InputMissing = "INPUT_MISSING",
    /// There is one input too many.
    InputExtra = "INPUT_EXTRA",
    /// `output_filter` names what the signature does not give, or names it twice.
    OutputUnknown = "OUTPUT_UNKNOWN",
    SignatureUnknown = "SIGNATURE_UNKNOWN",
    ModelUnknown = "MODEL_UNKNOWN",
    /// A Classify, Regress or MultiInference request without examples.
    NotAnExample = "NOT_AN_EXAMPLE",
    /// The bytes are no such message.
    Malformed = "MALFORMED",
    /// More bytes or elements than the limits allow.
    TooLarge = "TOO_LARGE",
    QueueFull = "QUEUE_FULL",
    Deadline = "DEADLINE",
    Draining = "DRAINING",
    UpstreamUnavailable = "UPSTREAM_UNAVAILABLE",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
