//! The closed set of reasons for which a request is refused: a metric label, `ErrorInfo.reason`,
//! and what each means and asks for.
use std::fmt;

macro_rules! reasons {
    ($(#[doc = $about:literal] $variant:ident = $label:literal: $remedy:literal,)*) => {
        /// Why a request does not conform or is not served.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $(#[doc = $about] $variant,)* }

        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The label, as clients and dashboards see it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// What it means, for docs/errors.md.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about.trim_ascii(),)* }
            }

            /// What to do about it, for docs/errors.md.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }
        }
    };
}

reasons! {
    /// Fewer dimensions than declared.
    RankTooLow = "RANK_TOO_LOW": "Send the shape that the message shows; as a rule the batch dimension is missing.",
    /// More dimensions than declared.
    RankTooHigh = "RANK_TOO_HIGH": "Send the shape that the message shows; as a rule there is one batch dimension too many.",
    /// One dimension differs.
    DimMismatch = "DIM_MISMATCH": "Send the declared size. Images: check channels and size; vectors: check the number of features.",
    /// Several dimensions differ.
    ShapeMismatch = "SHAPE_MISMATCH": "Compare the sent shape with the declared one; the axes may be in another order.",
    /// A rule found two shapes that conform.
    ShapeAmbiguous = "SHAPE_AMBIGUOUS": "Send the shape that is meant, or have the operator configure a rule that says so.",
    /// A size is negative or the rank was sent as unknown.
    ShapeNotConcrete = "SHAPE_NOT_CONCRETE": "Send the real sizes.",
    /// Inputs have different row counts.
    BatchMismatch = "BATCH_MISMATCH": "Send every input with the same number of rows.",
    /// Only dim 0 differs, and the model fixes it above 1.
    StaticBatch = "STATIC_BATCH": "Send as many rows as the model was exported for; the operator may switch on `fan_out` or `pad_static_batch`.",
    /// Another dtype, and no cast keeps the values.
    DtypeMismatch = "DTYPE_MISMATCH": "Send the declared dtype.",
    /// A value is outside the declared dtype's range.
    CastOutOfRange = "CAST_OUT_OF_RANGE": "Send values that the declared dtype can hold.",
    /// A value is in range but not representable.
    CastInexact = "CAST_INEXACT": "Send the declared dtype, rounded where rounding is right.",
    /// `tensor_content` has another length than shape and dtype say.
    ContentSize = "CONTENT_SIZE": "Make dtype, shape and bytes agree; twice the bytes is often float64 sent as float.",
    /// A typed list has another number of values than the shape says.
    ValueCount = "VALUE_COUNT": "Send one value for each element, or exactly one for all.",
    /// The values are in a field that TensorFlow does not read for the dtype.
    ValueField = "VALUE_FIELD": "Put the values into the dtype's own field, such as `float_val` for float.",
    /// A string tensor's `tensor_content` is not in TensorFlow's encoding.
    StringInContent = "STRING_IN_CONTENT": "Put strings into `string_val`.",
    /// An input has a name that the signature does not know, while another is missing.
    NameUnknown = "NAME_UNKNOWN": "Use the keys of the signature's inputs; the message lists them.",
    /// A name could mean two inputs.
    NameAmbiguous = "NAME_AMBIGUOUS": "Use the keys of the signature's inputs.",
    /// An input was left out.
    InputMissing = "INPUT_MISSING": "Send every input of the signature.",
    /// There is one input too many.
    InputExtra = "INPUT_EXTRA": "Leave the input out; the operator may switch on `drop_extra` for it.",
    /// `output_filter` names what the signature does not give, or names it twice.
    OutputUnknown = "OUTPUT_UNKNOWN": "Use the keys of the signature's outputs, each once, or leave `output_filter` empty.",
    /// The model has no signature of that name.
    SignatureUnknown = "SIGNATURE_UNKNOWN": "Use a signature that the message lists.",
    /// TensorFlow Serving does not serve the model or version, or the sidecar may not.
    ModelUnknown = "MODEL_UNKNOWN": "Compare `model_spec` with the server's model configuration.",
    /// A Classify, Regress or MultiInference request without examples.
    NotAnExample = "NOT_AN_EXAMPLE": "Send at least one `tf.Example`.",
    /// The bytes are no such message.
    Malformed = "MALFORMED": "Build the request with the generated protobuf classes.",
    /// More bytes or elements than the limits allow.
    TooLarge = "TOO_LARGE": "Send less at once, or have the limit that the message names raised.",
    /// Too many requests are in flight.
    QueueFull = "QUEUE_FULL": "Send it again after a pause; the details say how long.",
    /// The request's time was over before there was an answer.
    Deadline = "DEADLINE": "Allow more time; the message says what was waited for.",
    /// The sidecar is being shut down.
    Draining = "DRAINING": "Send it to another instance.",
    /// TensorFlow Serving cannot be reached.
    UpstreamUnavailable = "UPSTREAM_UNAVAILABLE": "Send it again; the operator looks at TensorFlow Serving.",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
