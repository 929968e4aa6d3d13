//! The rules, one file each; `REPAIRS` in the parent lists them in the order tried.
pub mod add_batch_dim;
pub mod aliases;
pub mod batch_first;
pub mod bool_numbers;
pub mod cast_checked;
pub mod cast_round;
pub mod cast_widen;
pub mod column_vector;
pub mod drop_extra;
pub mod drop_unit_dims;
pub mod fan_out;
pub mod flatten;
pub mod infer_dim;
pub mod input_defaults;
pub mod insert_unit_dims;
pub mod integral_floats;
pub mod move_values;
pub mod only_signature;
pub mod pad_ragged;
pub mod pad_static_batch;
pub mod rank1_is;
pub mod rename_single;
pub mod rename_tensor_name;
pub mod round_ints;
pub mod scalar_inputs;
pub mod scalar_shape;
pub mod singleton_move;
pub mod split_oversize;
pub mod string_content;
pub mod suffix_match;
pub mod unflatten;

use crate::tensor::{PartialShape, Shape};

/// A rule of the shape stage that only looks at the two shapes of an input of known rank.
macro_rules! shape_rule {
    ($decide:path) => {
        $crate::repair::Propose::Tensor(|case| {
            let $crate::tensor::PartialShape::Known(declared) = &case.info.shape else {
                return $crate::repair::Proposal::No;
            };
            match $decide(&case.descriptor.shape, declared) {
                $crate::repair::rules::Fit::None => $crate::repair::Proposal::No,
                $crate::repair::rules::Fit::One(shape) => {
                    $crate::repair::Proposal::Becomes(case.descriptor.with_shape(shape))
                }
                $crate::repair::rules::Fit::Two(one, other) => {
                    $crate::repair::Proposal::Fault($crate::repair::rules::ambiguous(case, &one, &other))
                }
            }
        })
    };
}
pub(super) use shape_rule;

/// How many conforming shapes a rule reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fit {
    None,
    One(Shape),
    Two(Shape, Shape),
}

impl Fit {
    fn of(mut shapes: impl Iterator<Item = Shape>) -> Self {
        let Some(first) = shapes.next() else { return Self::None };
        match shapes.find(|shape| *shape != first) {
            None => Self::One(first),
            Some(other) => Self::Two(first, other),
        }
    }
}

pub(super) fn ambiguous(case: &super::TensorCase<'_>, one: &Shape, other: &Shape) -> super::Problem {
    let declared = &case.info.shape;
    let what = format!("shape {} could mean {one} or {other} for {declared}", case.descriptor.shape);
    super::Problem::new(super::Reason::ShapeAmbiguous, &case.info.alias, what)
        .hint("send the one that is meant")
}

fn accepts(declared: &Shape, shape: &Shape) -> bool {
    PartialShape::Known(declared.clone()).accepts(shape)
}

/// The cast into the declared dtype; a tensor without values only gets another label.
fn cast(case: &super::TensorCase<'_>, exactness: crate::tensor::Exactness) -> super::Proposal {
    let after = case.descriptor.with_dtype(case.info.dtype);
    if case.descriptor.encoding == super::Encoding::Nothing {
        return super::Proposal::Becomes(after);
    }
    super::Proposal::Changes(after, super::ValueChange::Cast(exactness))
}

/// The cast, if every value survives it, else what the client is told.
fn checked(case: &super::TensorCase<'_>, exactness: crate::tensor::Exactness) -> super::Proposal {
    match case.check_cast(case.info.dtype, exactness) {
        Ok(()) => cast(case, exactness),
        Err(problem) => super::Proposal::Fault(problem),
    }
}

/// Whether `axes`, in their order, multiply up to `wanted`: one or more neighbouring axes for a
/// size, exactly one for a -1.
fn regroup(wanted: &[i64], axes: &[i64]) -> bool {
    // `reached[at]`: the wanted sizes so far use up the first `at` axes.
    let mut reached = vec![false; axes.len() + 1];
    reached[0] = true;
    for want in wanted {
        let mut next = vec![false; axes.len() + 1];
        for at in (0..axes.len()).filter(|at| reached[*at]) {
            let mut product = 1_i64;
            for (end, size) in axes.iter().enumerate().skip(at) {
                let Some(larger) = product.checked_mul(*size) else { break };
                product = larger;
                if product == *want || (*want == -1 && end == at) {
                    next[end + 1] = true;
                }
            }
        }
        reached = next;
    }
    reached[axes.len()]
}

/// The same sizes in another order: a transposed tensor, whose elements would have to move.
/// Declared sizes of -1 match any.
fn is_permuted(sent: &Shape, declared: &Shape) -> bool {
    let mut left: Vec<i64> = sent.to_vec();
    let fixed = declared.iter().filter(|size| **size >= 0);
    let taken = fixed
        .clone()
        .all(|size| left.iter().position(|have| have == size).map(|at| left.swap_remove(at)).is_some());
    sent.rank() == declared.rank() && fixed.count() > 0 && taken
}
