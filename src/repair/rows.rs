//! The rows of a request: whether all inputs have the same number, and whether there are any.
use super::policy::Limits;
use super::problem::{Problem, Weight};
use super::reason::Reason;
use crate::signature::{Signature, TensorInfo};
use crate::tensor::{PartialShape, Shape};

/// Checks the inputs as they will be sent, including the added ones.
pub(super) fn check(
    signature: &Signature,
    limits: Limits,
    shapes: &[(&TensorInfo, &Shape)],
    problems: &mut Vec<Problem>,
) {
    for (info, shape) in shapes {
        if limits.refuse_zero_rows && info.has_rows() && shape.first() == Some(&0) {
            let what = format!("no rows in {shape}, expected at least 1");
            let problem = Problem::new(Reason::DimMismatch, &info.alias, what).weight(Weight::Shield);
            problems.push(problem.hint("a server that batches never answers an empty request"));
        }
    }
    problems.extend(differ(signature, shapes));
}

/// Row counts must be equal only if there are several inputs and all inputs of known rank declare
/// dim 0 as -1. Anything else, such as a sparse triplet or a scalar beside a batch, has a meaning
/// of its own that the signature does not tell.
fn differ(signature: &Signature, shapes: &[(&TensorInfo, &Shape)]) -> Option<Problem> {
    let known = |info: &&TensorInfo| info.shape != PartialShape::UnknownRank;
    if signature.inputs.len() < 2 || !signature.inputs.iter().filter(known).all(TensorInfo::has_rows) {
        return None;
    }
    let mut rows: Vec<(&str, i64)> = shapes
        .iter()
        .filter(|(info, shape)| known(info) && info.shape.accepts(shape))
        .filter_map(|(info, shape)| Some((info.alias.as_str(), *shape.first()?)))
        .collect();
    rows.sort_unstable();
    let (_, first) = rows.first()?;
    if rows.iter().all(|(_, count)| count == first) {
        return None;
    }
    let counts: Vec<String> = rows.iter().map(|(alias, count)| format!("{alias}: {count}")).collect();
    let what = format!("the inputs have different numbers of rows {{{}}}", counts.join(", "));
    Some(Problem::new(Reason::BatchMismatch, "", what).hint("send every input with the same dimension 0"))
}
