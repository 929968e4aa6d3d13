//! The reasons for which a request is refused, in one table: label, stage, meaning and remedy.
use std::fmt;

use super::Stage;

macro_rules! reasons {
    ($(#[doc = $about:literal] $variant:ident = $label:literal, $stage:ident: $remedy:literal,)*) => {
        /// Why a request does not conform or is not served: a metric label and `ErrorInfo.reason`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $(#[doc = $about] $variant,)* }

        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The label, as clients and dashboards see it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// The stage that finds it. Problems are listed in the order of the stages.
            pub(super) const fn stage(self) -> Stage {
                match self { $(Self::$variant => Stage::$stage,)* }
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
    RankTooLow = "RANK_TOO_LOW", Shape: "Send the shape that the message shows. Usually the batch dimension is missing.",
    /// More dimensions than declared.
    RankTooHigh = "RANK_TOO_HIGH", Shape: "Send the shape that the message shows. Usually there is one batch dimension too many.",
    /// One dimension differs.
    DimMismatch = "DIM_MISMATCH", Shape: "Send the declared size. Images: check channels and size; vectors: check the number of features.",
    /// Several dimensions differ.
    ShapeMismatch = "SHAPE_MISMATCH", Shape: "Compare the sent shape with the declared one. The axes may be in another order.",
    /// Two different shapes would conform.
    ShapeAmbiguous = "SHAPE_AMBIGUOUS", Shape: "Send the intended shape, or ask the operator to configure a rule for it.",
    /// A size is negative, or `unknown_rank` was sent with several values and no sizes.
    ShapeNotConcrete = "SHAPE_NOT_CONCRETE", Encoding: "Send the actual sizes.",
    /// Inputs have different numbers of rows, with `row_agreement: refuse` or after a shape repair.
    BatchMismatch = "BATCH_MISMATCH", Rows: "Send every input with the same number of rows, or, if they are not the same rows, with the declared shape.",
    /// Only dim 0 differs, and the model declares a fixed number of rows.
    StaticBatch = "STATIC_BATCH", Shape: "Send as many rows as the model was exported for. The operator can switch on `fan_out` or `pad_static_batch`.",
    /// Another dtype, and no cast would keep the values.
    DtypeMismatch = "DTYPE_MISMATCH", Dtype: "Send the declared dtype.",
    /// Integers of 8 or 16 bits for an input of floats, with `small_ints: refuse`.
    IntegerForFloat = "INTEGER_FOR_FLOAT", Dtype: "Scale the values as the model expects, such as pixels to 0..1, and send the declared dtype. If the model takes them as they are, the operator can set `small_ints: allow`.",
    /// A value is outside the declared dtype's range.
    CastOutOfRange = "CAST_OUT_OF_RANGE", Dtype: "Send values that the declared dtype can hold.",
    /// A value is in range, but the declared dtype does not have it exactly.
    CastInexact = "CAST_INEXACT", Dtype: "Send the declared dtype, and round the values yourself if that is acceptable.",
    /// A declared transform was not made, because it does not fit the request.
    NotTransformed = "NOT_TRANSFORMED", Transform: "Send the input as the model takes it, or as the operator's transform expects it. The message says what is in the way.",
    /// The length of `tensor_content` does not match shape and dtype.
    ContentSize = "CONTENT_SIZE", Encoding: "Make dtype, shape and bytes agree. Twice the expected bytes are often float64 sent as float.",
    /// The number of values in a typed list does not match the shape.
    ValueCount = "VALUE_COUNT", Encoding: "Send one value for each element, or exactly one for all.",
    /// The values are in a field that TensorFlow does not read, or two fields differ.
    ValueField = "VALUE_FIELD", Encoding: "Put the values into the field of the dtype, such as `float_val` for float, and into no other.",
    /// Lists of different lengths or depths, which are no tensor.
    Ragged = "RAGGED", Encoding: "Send lists of one length at each level. The place is the first that differs.",
    /// A string tensor's `tensor_content` is not in TensorFlow's encoding.
    StringInContent = "STRING_IN_CONTENT", Encoding: "Put strings into `string_val`.",
    /// The signature has no input of this name, and another input is missing.
    NameUnknown = "NAME_UNKNOWN", Names: "Use the input names of the signature. The message lists them.",
    /// A name could mean two inputs.
    NameAmbiguous = "NAME_AMBIGUOUS", Names: "Use the input names of the signature.",
    /// An input was not sent.
    InputMissing = "INPUT_MISSING", Names: "Send every input of the signature.",
    /// The signature has no input of this name, and no input is missing.
    InputExtra = "INPUT_EXTRA", Names: "Do not send the input. The operator can switch on `drop_extra` for it.",
    /// `output_filter` has an unknown output, or one output twice.
    OutputUnknown = "OUTPUT_UNKNOWN", Names: "Use the output names of the signature, each once, or leave `output_filter` empty.",
    /// The model has no signature of that name.
    SignatureUnknown = "SIGNATURE_UNKNOWN", Signature: "Use one of the signatures that the message lists.",
    /// TensorFlow Serving does not serve the model or version, or the sidecar is not configured to.
    ModelUnknown = "MODEL_UNKNOWN", Signature: "Compare the name and version (in `model_spec`, or in the URL) with the server's model configuration.",
    /// A Classify, Regress or MultiInference request without examples.
    NotAnExample = "NOT_AN_EXAMPLE", Encoding: "Send at least one `tf.Example`.",
    /// A value is far outside of what the training data had, with `profile_check: refuse`.
    FarOutOfRange = "OUT_OF_RANGE", Rows: "Send values as the model was trained on: look for a missing scaler, another unit or another order of features.",
    /// A value is NaN or infinite, as none of the training data was, with `profile_check: refuse`.
    NotFinite = "NOT_FINITE", Rows: "Replace missing values as the training did.",
    /// A value is none of the few that the training data had, with `profile_check: refuse`.
    UnknownCategory = "UNKNOWN_CATEGORY", Rows: "Encode categories as the training did, with its vocabulary.",
    /// A string is empty, which the training data did not have, with `profile_check: refuse`.
    EmptyText = "EMPTY_TEXT", Rows: "Do not send empty strings.",
    /// The client preprocesses in another way than the training did, with `profile_check: refuse`.
    Shifted = "SHIFTED", Rows: "Preprocess the values as the training did. The message names the mistake that explains them.",
    /// The bytes are not a valid message, or the body is not a valid JSON request.
    Malformed = "MALFORMED", Encoding: "Build the request with the generated protobuf classes. For JSON, the message says where the body is wrong.",
    /// More bytes or elements than the limits allow, or far more than the message carries.
    TooLarge = "TOO_LARGE", Encoding: "Send less at once, or ask the operator to raise the limit that the message names.",
    /// Too many requests are in flight.
    QueueFull = "QUEUE_FULL", Signature: "Retry after a pause. The error details say how long.",
    /// The deadline passed before there was a response.
    Deadline = "DEADLINE", Signature: "Allow more time. The message says what the request was waiting for.",
    /// The sidecar is being shut down.
    Draining = "DRAINING", Signature: "Retry on another instance.",
    /// TensorFlow Serving cannot be reached.
    UpstreamUnavailable = "UPSTREAM_UNAVAILABLE", Signature: "Retry. If it persists, the operator must check TensorFlow Serving.",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
