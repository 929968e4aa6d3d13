//! The registry of repairs, one file each, and what several of them share.
pub(crate) use aliases::ALIASES;
pub(crate) use drop_extra::DROP_EXTRA;
pub(crate) use input_defaults::DEFAULT;
pub(crate) use pad_ragged::{PAD, PAD_MASK, PAD_VALUE};
#[cfg(test)]
pub(crate) use rank1_is::RANK1_IS;
pub(crate) use scalar_inputs::SCALAR;
pub(in crate::repair) use split_oversize::REPAIR as SPLIT_OVERSIZE;
pub(in crate::repair) use {
    bool_numbers::REPAIR as BOOL_NUMBERS, integral_floats::REPAIR as INTEGRAL_FLOATS,
    list_of_one::REPAIR as LIST_OF_ONE, names_at_top::REPAIR as NAMES_AT_TOP,
    string_numbers::REPAIR as STRING_NUMBERS,
};
pub(in crate::repair) use {
    clip::REPAIR as CLIP, decode_base64::REPAIR as DECODE_BASE64, decode_image::REPAIR as DECODE_IMAGE,
    lowercase::REPAIR as LOWERCASE, relabel_dtype::REPAIR as RELABEL_DTYPE,
    rename_model::REPAIR as RENAME_MODEL, scale::REPAIR as SCALE, standardize::REPAIR as STANDARDIZE,
    transpose::REPAIR as TRANSPOSE,
};

use super::Repair;
use crate::tensor::{PartialShape, Shape};

macro_rules! rules {
    ($($module:ident,)*) => {
        $(mod $module;)*

        /// Every repair, in the order in which the rules of a stage are tried.
        pub static REPAIRS: &[&Repair] = &[$(&$module::REPAIR,)*];
    };
}

// A new repair is a file in this folder and a line here. Within a stage, the order matters.
rules! {
    only_signature,
    rename_tensor_name,
    aliases,
    suffix_match,
    drop_extra,
    rename_single,
    list_of_one,
    names_at_top,
    string_numbers,
    infer_dim,
    move_values,
    string_content,
    cast_widen,
    cast_round,
    integral_floats,
    bool_numbers,
    round_ints,
    cast_checked,
    scalar_shape,
    scalar_inputs,
    rank1_is,
    add_batch_dim,
    batch_first,
    column_vector,
    drop_unit_dims,
    insert_unit_dims,
    singleton_move,
    flatten,
    unflatten,
    pad_ragged,
    rename_model,
    decode_base64,
    decode_image,
    lowercase,
    relabel_dtype,
    transpose,
    standardize,
    scale,
    clip,
    input_defaults,
    fan_out,
    pad_static_batch,
    split_oversize,
}

/// A rule of the shape stage that only compares the two shapes of an input of known rank.
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

/// How many conforming shapes a rule finds.
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

/// The problem of a shape with two interpretations.
pub(super) fn ambiguous(case: &super::TensorCase<'_>, one: &Shape, other: &Shape) -> super::Problem {
    let declared = &case.info.shape;
    let what = format!("shape {} could mean {one} or {other} for {declared}", case.descriptor.shape);
    super::Problem::new(super::Reason::ShapeAmbiguous, &case.info.alias, what).hint("send the shape you mean")
}

fn accepts(declared: &Shape, shape: &Shape) -> bool {
    PartialShape::Known(declared.clone()).accepts(shape)
}

/// The cast to the declared dtype. Of a tensor without values, only the dtype changes.
fn cast(case: &super::TensorCase<'_>, exactness: crate::tensor::Exactness) -> super::Proposal {
    let after = case.descriptor.with_dtype(case.info.dtype);
    if case.descriptor.encoding == super::Encoding::Nothing {
        return super::Proposal::Becomes(after);
    }
    super::Proposal::Changes(after, super::ValueChange::Cast(exactness))
}

/// The cast if it keeps every value, otherwise the problem to report.
fn checked(case: &super::TensorCase<'_>, exactness: crate::tensor::Exactness) -> super::Proposal {
    match case.check_cast(case.info.dtype, exactness) {
        Ok(()) => cast(case, exactness),
        Err(problem) => super::Proposal::Fault(problem),
    }
}

/// Whether `axes` can be merged into `wanted` without reordering: one or more adjacent axes for
/// each size, exactly one for each -1.
fn regroup(wanted: &[i64], axes: &[i64]) -> bool {
    // `reached[at]`: the wanted sizes so far can be made of the first `at` axes.
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

/// Whether the sizes are the declared ones in another order: a transposed tensor, whose elements
/// would have to move. A declared -1 matches any size.
fn is_permuted(sent: &Shape, declared: &Shape) -> bool {
    let mut left: Vec<i64> = sent.to_vec();
    let fixed = declared.iter().filter(|size| **size >= 0);
    let taken = fixed
        .clone()
        .all(|size| left.iter().position(|have| have == size).map(|at| left.swap_remove(at)).is_some());
    sent.rank() == declared.rank() && fixed.count() > 0 && taken
}
