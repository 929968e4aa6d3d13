//! Requests of any number of rows from one request, and whether the answers agree.
use super::report;
use crate::batch::{Bypass, Part, Slicer, compare, declared_rows, join, sharable};
use crate::repair::Calls;
use crate::repair::calls::requests;
use crate::repair::report::ascii;
use crate::signature::{Signature, TensorInfo};
use crate::wire::rows::RowsError;
use crate::wire::{PredictView, Rope};

/// The rows of a request, each as a request of its own.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    signature: &'a Signature,
    parts: Vec<Part>,
}

/// Why no requests can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SizesError {
    #[error("{}{detail}", bypass.text())]
    Bypass { bypass: Bypass, detail: String },
    #[error("cannot cut the request into rows: {0}")]
    Rows(#[from] RowsError),
}

/// How the answers to the same rows differ.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Disagreement {
    #[error("the answer of a run of {} cannot be cut into rows: {error}", report::rows(*rows))]
    Rows { rows: u64, error: RowsError },
    #[error("row {at} of a run of {} differs from the same row alone: output `{output}`: {problem}", report::rows(*rows))]
    Values { at: u64, rows: u64, output: String, problem: String },
}

impl SizesError {
    /// What to do about it.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Bypass { bypass: Bypass::OutputWithoutRows, .. } => {
                Some("a request whose output_filter leaves such outputs out can share a run")
            }
            Self::Bypass { bypass: Bypass::FixedBatch | Bypass::UnknownRank, .. } => {
                Some("export the model with a first dimension of None for all inputs and outputs")
            }
            _ => None,
        }
    }
}

impl<'a> Rows<'a> {
    /// `message` conforms to the signature. At most `max` of its rows are used.
    ///
    /// # Errors
    /// Why its rows cannot share a run with others.
    pub(super) fn of(signature: &'a Signature, message: &Rope, max: u64) -> Result<Self, SizesError> {
        let view = PredictView::scan(message).map_err(RowsError::from)?;
        let refused = |bypass| SizesError::Bypass { bypass, detail: detail(signature, &view, bypass) };
        sharable(signature, false).map_err(refused)?;
        let whole = Part::of(signature, message, &view).map_err(refused)?;
        // With all values written out, the request can be cut.
        let message = join(signature, &[&whole], whole.rows);
        let calls = Calls::Split { rows: whole.rows as i64, per_call: 1, whole: false };
        let mut parts = Vec::new();
        for (row, _) in requests(&message, calls)?.into_iter().take(max as usize) {
            let view = PredictView::scan(&row).map_err(RowsError::from)?;
            parts.push(Part::of(signature, &row, &view).map_err(refused)?);
        }
        Ok(Self { signature, parts })
    }

    /// How many rows differ from each other, unless the request has equal ones.
    pub(super) fn distinct(&self) -> u64 {
        self.parts.len() as u64
    }

    /// A request of so many rows: those of the request, again and again.
    pub(super) fn request(&self, rows: u64) -> Rope {
        let parts: Vec<&Part> = self.parts.iter().cycle().take(rows as usize).collect();
        join(self.signature, &parts, rows)
    }

    /// A request of the row with this index alone.
    pub(super) fn alone(&self, index: u64) -> Rope {
        let parts: Vec<&Part> = self.parts.get(index as usize).into_iter().collect();
        join(self.signature, &parts, 1)
    }
}

/// Compares the answer to [`Rows::request`] with those to [`Rows::alone`].
///
/// # Errors
/// They differ by more than the tolerance, or the answer does not have the rows of the request.
pub(super) fn agrees(answer: &Rope, rows: u64, alone: &[Rope]) -> Result<(), Disagreement> {
    let unreadable = |error| Disagreement::Rows { rows, error };
    let mut slicer = Slicer::new(answer, rows).map_err(unreadable)?;
    for (at, alone) in (1..=rows).zip(alone.iter().cycle()) {
        let row = slicer.next(1).map_err(unreadable)?;
        compare(&row, alone).map_err(|found| Disagreement::Values {
            at,
            rows,
            output: ascii(&found.output).into_owned(),
            problem: found.problem,
        })?;
    }
    Ok(())
}

/// The inputs or outputs that are the reason, as they are declared or sent.
fn detail(signature: &Signature, view: &PredictView, bypass: Bypass) -> String {
    let names: Vec<String> = match bypass {
        Bypass::UnknownRank | Bypass::FixedBatch | Bypass::Dtype => {
            let causes = signature.inputs.iter().filter(|info| declared_rows(info, false) == Err(bypass));
            causes.map(declared).collect()
        }
        Bypass::OutputWithoutRows => {
            let fetched = |name: &String| view.output_filter.is_empty() || view.output_filter.contains(name);
            let causes = signature.outputs.iter().filter(|info| fetched(&info.alias) && !info.has_rows());
            causes.map(declared).collect()
        }
        Bypass::MissingInput => {
            let causes = signature.inputs.iter().filter(|info| view.input(&info.alias).is_none());
            causes.map(|info| format!("`{}`", ascii(&info.alias))).collect()
        }
        Bypass::RowsDiffer | Bypass::ZeroRows => view
            .inputs
            .iter()
            .map(|input| format!("`{}` is {}", ascii(&input.key), input.tensor.shape))
            .collect(),
        _ => Vec::new(),
    };
    if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) }
}

fn declared(info: &TensorInfo) -> String {
    let of = if info.shape.rank().is_none() { "of " } else { "" };
    format!("`{}` is declared as {} {of}{}", ascii(&info.alias), info.dtype, info.shape)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::repair::notation;
    use crate::signature::DEFAULT_SIGNATURE;

    fn signature(text: &str) -> Arc<Signature> {
        notation::signature(text).unwrap().get(DEFAULT_SIGNATURE).unwrap().clone()
    }

    fn error(text: &str, request: &str) -> String {
        let message = notation::request("m", request).unwrap();
        Rows::of(&signature(text), &message, 64).unwrap_err().to_string()
    }

    #[test]
    fn requests_of_any_size_repeat_the_rows() {
        let signature = signature("x:int32[-1,2] rate:float[] t:string[-1] -> y:float[-1]");
        let message =
            notation::request("m", "x:int32[3,2]{1,2,3,4,5,6} rate:float[]{7} t:string[3]{a,b,c}").unwrap();
        let rows = Rows::of(&signature, &message, 64).unwrap();
        assert_eq!(rows.distinct(), 3);
        let five = "rate:float[]{7} t:string[5]{a,b,c,a,b} x:int32[5,2]{1,2,3,4,5,6,1,2,3,4}";
        assert_eq!(rows.request(5), notation::request("m", five).unwrap());
        let second = "rate:float[]{7} t:string[1]{b} x:int32[1,2]{3,4}";
        assert_eq!(rows.alone(1), notation::request("m", second).unwrap());
        assert_eq!(Rows::of(&signature, &message, 2).unwrap().distinct(), 2);
    }

    #[test]
    fn one_value_that_stands_for_all_rows_is_written_out() {
        let signature = signature("x:float[-1,2] -> y:float[-1]");
        let message = notation::request("m", "x:float[2,2]@float_val=1{3}").unwrap();
        let rows = Rows::of(&signature, &message, 64).unwrap();
        assert_eq!(rows.request(3), notation::request("m", "x:float[3,2]{3,3,3,3,3,3}").unwrap());
    }

    #[test]
    fn what_cannot_be_batched_is_named() {
        insta::assert_snapshot!([
            error("x:float[4,2] -> y:float[-1]", "x:float[4,2]"),
            error("x:float[-1] z:float -> y:float[-1]", "x:float[1] z:float[1]"),
            error("x:float[-1] -> y:float[-1] loss:float[]", "x:float[1]"),
            error("x:float[-1] -> y:float[-1,2] z:float", "x:float[1]"),
            error("rate:float[] -> y:float[-1]", "rate:float[]"),
            error("x:float[-1] z:float[-1] -> y:float[-1]", "x:float[1]"),
            error("x:float[-1] z:float[-1] -> y:float[-1]", "x:float[1] z:float[2]"),
            error("x:float[-1] -> y:float[-1]", "x:float[0]"),
        ].join("\n"), @r"
        an input has a fixed dim 0: `x` is declared as float [4,2]
        an input has an unknown rank: `z` is declared as float of unknown rank
        an output does not have the rows of the inputs: `loss` is declared as float []
        an output does not have the rows of the inputs: `z` is declared as float of unknown rank
        no input has rows
        an input was not sent: `z`
        the inputs have different numbers of rows: `x` is [1], `z` is [2]
        the request has no rows: `x` is [0]
        ");
    }

    fn answer(values: &str) -> Rope {
        // The outputs of an answer are field 1, as the inputs of a request are field 2.
        use prost::Message as _;

        use crate::proto::tensorflow::serving::{PredictRequest, PredictResponse};
        let request = notation::request("m", values).unwrap();
        let outputs = PredictRequest::decode(request.to_bytes()).unwrap().inputs;
        Rope::from(PredictResponse { outputs, model_spec: None }.encode_to_vec())
    }

    #[test]
    fn each_row_must_be_what_it_is_alone() {
        let alone = [answer("y:float[1,2]{1,2}"), answer("y:float[1,2]{3,4}")];
        assert_eq!(agrees(&answer("y:float[3,2]{1,2,3,4,1,2}"), 3, &alone), Ok(()));
        let swapped = agrees(&answer("y:float[3,2]{1,2,1,2,3,4}"), 3, &alone).unwrap_err().to_string();
        assert!(
            swapped.starts_with("row 2 of a run of 3 rows differs from the same row alone: output `y`"),
            "{swapped}"
        );
    }

    #[test]
    fn an_answer_must_have_the_rows_of_the_request() {
        let alone = [answer("y:float[1]{1}")];
        let short = agrees(&answer("y:float[1]{1}"), 2, &alone).unwrap_err();
        assert_eq!(
            short.to_string(),
            "the answer of a run of 2 rows cannot be cut into rows: expected 2 rows, got 1"
        );
    }
}
