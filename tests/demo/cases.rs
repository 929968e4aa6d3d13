//! The requests of the demo: one vector in every shape that clients send, and mistakes that cannot
//! be repaired.
use prost::bytes::Bytes;

use crate::client::Answer;
use crate::support::dense::{CASE, INPUT, MODEL};
use crate::support::requests::{FLOAT, Predict, content, doubles, float_list, floats, strings};

pub(crate) struct Case {
    pub(crate) sent: &'static str,
    pub(crate) request: Predict,
    pub(crate) expected: Expected,
}

pub(crate) enum Expected {
    /// The ten expected probabilities in every row, after these repairs.
    Correct(&'static [&'static str]),
    /// A refusal with this reason.
    Refused(&'static str),
}

impl Expected {
    /// Whether the sidecar's answer is the expected one.
    pub(crate) fn check(&self, answer: &Answer) -> Result<(), String> {
        match (self, answer) {
            (Self::Correct(rules), Answer::Probabilities { repairs, same: true, .. }) => {
                let used: Vec<&str> = repairs.iter().filter_map(|repair| repair.split(';').nth(1)).collect();
                if used == *rules {
                    Ok(())
                } else {
                    Err(format!("expected the repairs {rules:?}, got {repairs:?}"))
                }
            }
            (Self::Refused(wanted), Answer::Refused { reason: Some(reason), .. }) if reason == wanted => {
                Ok(())
            }
            (Self::Correct(_), other) => Err(format!("expected the correct probabilities, got {other:?}")),
            (Self::Refused(wanted), other) => Err(format!("expected a refusal with {wanted}, got {other:?}")),
        }
    }
}

pub(crate) fn cases() -> Vec<Case> {
    use Expected::{Correct, Refused};
    let row = &CASE.input_tensor[..];
    let three = [row, row, row].concat();
    let input = |tensor| Predict::new(MODEL).input(INPUT, tensor);
    let case = |sent, request, expected| Case { sent, request, expected };
    vec![
        case("float [1,128]", input(floats(&[1, 128], row)), Correct(&[])),
        case("float [128]", input(floats(&[128], row)), Correct(&["add_batch_dim"])),
        case("float [128,1]", input(floats(&[128, 1], row)), Correct(&["column_vector"])),
        case("double [1,128]", input(doubles(&[1, 128], row)), Correct(&["cast_round"])),
        case("double [128]", input(doubles(&[128], row)), Correct(&["cast_round", "add_batch_dim"])),
        case("double [128,1]", input(doubles(&[128, 1], row)), Correct(&["cast_round", "column_vector"])),
        case(
            "float [3,1,128]: a batch of 3",
            input(floats(&[3, 1, 128], &three)),
            Correct(&["drop_unit_dims"]),
        ),
        case(
            "float [-1,128] with 384 values",
            input(float_list(&[-1, 128], &three)),
            Correct(&["infer_dim"]),
        ),
        case(
            "float [1,128] named `x`",
            Predict::new(MODEL).input("x", floats(&[1, 128], row)),
            Correct(&["rename_single"]),
        ),
        case(
            "double [128] named by its graph tensor",
            Predict::new(MODEL).input("serving_default_input_tensor:0", doubles(&[128], row)),
            Correct(&["rename_tensor_name", "cast_round", "add_batch_dim"]),
        ),
        case("float [127]", input(floats(&[127], &row[1..])), Refused("RANK_TOO_LOW")),
        case("float [1,127]", input(floats(&[1, 127], &row[1..])), Refused("DIM_MISMATCH")),
        case("float [128,3]: transposed", input(floats(&[128, 3], &three)), Refused("DIM_MISMATCH")),
        case("float [1,1,8,16]: an NCHW image", input(floats(&[1, 1, 8, 16], row)), Refused("RANK_TOO_HIGH")),
        case("float [1,128] with 3 values", input(float_list(&[1, 128], &row[..3])), Refused("VALUE_COUNT")),
        case(
            "float [1,128] without values",
            input(content(FLOAT, &[1, 128], Bytes::new())),
            Refused("VALUE_COUNT"),
        ),
        case(
            "float [1,128], bytes of doubles",
            input(content(FLOAT, &[1, 128], doubles(&[1, 128], row).tensor_content)),
            Refused("CONTENT_SIZE"),
        ),
        case("string [1]", input(strings(&[1], &[b"0.5 0.25"])), Refused("DTYPE_MISMATCH")),
        case(
            "float [1,128], signature `predict`",
            input(floats(&[1, 128], row)).signature("predict"),
            Refused("SIGNATURE_UNKNOWN"),
        ),
    ]
}
