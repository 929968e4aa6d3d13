//! Operations that were given values that they cannot take.
use super::Actor::Client;
use super::detail::Detail;
use super::{Row, row};

const fn value(texts: &'static [&'static str], meaning: &'static str, source: &'static str) -> Row {
    row(Client, texts, meaning, source).detail(Detail::Values)
}

pub(super) const ROWS: &[Row] = &[
    value(
        &["indices* = * is not in [0, "],
        "an id is outside the table in which the model looks it up: the ids come from another vocabulary, or are not shifted as in training",
        "gather_op.cc, resource_variable_ops.cc",
    ),
    value(
        &[
            "does not index into param shape",
            "does not index into shape",
            "is out of bounds: need 0 <= index <",
        ],
        "an index points outside the tensor that it selects from",
        "gather_nd_op.cc, scatter_nd_op.cc, sparse_to_dense_op.cc",
    ),
    value(
        &[
            "Expected image (JPEG, PNG, or GIF), got",
            "Unable to decode bytes as JPEG",
            "Unknown image file format",
        ],
        "the bytes are not an encoded image: over gRPC send the file's own bytes, not base64 text, not pixels, not the printed array",
        "decode_image_op.cc, tensorflow/tensorflow#29061",
    ),
    value(
        &["Invalid character found in base64"],
        "the model decodes web-safe base64 (with - and _ for + and /) and was sent something else: use that alphabet, without line breaks",
        "base64.cc",
    ),
    value(
        &["Input to DecodeRaw has length"],
        "the bytes are not a whole number of values of the dtype that the model reads: send the raw little-endian array in that dtype",
        "decode_raw_op.cc",
    ),
    value(
        &["StringToNumberOp could not correctly convert string"],
        "the model reads numbers from text and was sent text that is not a number (empty strings count): the text is at the end of the message",
        "string_to_number_op.cc",
    ),
    value(
        &["out of range for string"],
        "the model cuts a piece out of a text that is shorter than the piece's position",
        "substr_op.cc",
    ),
    value(
        &["ast * to string is not supported", "ast string to * is not supported"],
        "text was sent where the model takes numbers, or numbers where it takes text: send the dtype that the model was trained with; text is dtype string with bytes in string_val",
        "cast_op.cc, tensorflow/serving#1017",
    ),
    value(
        &["Tensor had NaN", "Tensor had Inf", "Tensor had -Inf", "Tensor had +Inf"],
        "the model checks its values and a result is not a finite number: look for NaN, infinite or very large values in the inputs",
        "check_numerics_op.cc",
    ),
    value(
        &["Integer division by zero", "Integer division of zero"],
        "the model divides by an input that is 0, or by a size that is 0",
        "cwise_ops_common.cc",
    ),
    value(
        &["assertion failed: ["],
        "the model was exported with a check of its own and the request does not pass it: the brackets say what was checked and hold the values",
        "logging_ops.cc",
    ),
];
