//! The rules, one file each; `REPAIRS` in the parent lists them in the order tried.
pub mod add_batch_dim;
pub mod batch_first;
pub mod cast_checked;
pub mod cast_round;
pub mod cast_widen;
pub mod column_vector;
pub mod drop_unit_dims;
pub mod infer_dim;
pub mod insert_unit_dims;
pub mod move_values;
pub mod only_signature;
pub mod rename_single;
pub mod rename_tensor_name;
pub mod scalar_shape;
pub mod string_content;

use crate::tensor::{PartialShape, Shape};

/// A rule of the shape stage that only looks at the two shapes of an input of known rank.
macro_rules! shape_rule {
    ($decide:path) => {
        $crate::repair::Propose::Tensor(|case| {
            let $crate::tensor::PartialShape::Known(declared) = &case.info.shape else {
                return $crate::repair::Proposal::No;
            };
            match $decide(&case.head.shape, declared) {
                $crate::repair::kinds::Fit::None => $crate::repair::Proposal::No,
                $crate::repair::kinds::Fit::One(shape) => {
                    $crate::repair::Proposal::Becomes(case.head.with_shape(shape))
                }
                $crate::repair::kinds::Fit::Two(one, other) => {
                    $crate::repair::Proposal::Fault($crate::repair::kinds::ambiguous(case, &one, &other))
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
    let what = format!("shape {} could mean {one} or {other} for {declared}", case.head.shape);
    super::Problem::new(super::Reason::ShapeAmbiguous, &case.info.alias, what)
        .hint("send the one that is meant")
}

fn accepts(declared: &Shape, shape: &Shape) -> bool {
    PartialShape::Known(declared.clone()).accepts(shape)
}

/// The cast into the declared dtype; a tensor without values only gets another label.
fn cast(case: &super::TensorCase<'_>, exactness: crate::tensor::Exactness) -> super::Proposal {
    let after = case.head.with_dtype(case.info.dtype);
    if case.head.carried == super::Carried::Nothing {
        return super::Proposal::Becomes(after);
    }
    super::Proposal::Changes(after, super::ValueChange::Cast(exactness))
}
