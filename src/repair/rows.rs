//! Whether the inputs of a request agree on how many rows there are.
use super::problem::Problem;
use super::reason::Reason;
use crate::signature::{Signature, TensorInfo};
use crate::tensor::{PartialShape, Shape};

/// Row counts must be equal only where every input of known rank declares dim 0 as -1 and there is more than one input: anything
/// else (a sparse triplet, a scalar beside a batch) has its own meaning that no signature tells.
pub(super) fn check(signature: &Signature, shapes: &[(&TensorInfo, &Shape)]) -> Option<Problem> {
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
