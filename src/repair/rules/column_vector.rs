//! Turns a column of k values into a row where a row of k is declared.
use super::Fit;
use crate::repair::{Example, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier};
use crate::tensor::{PartialShape, Shape};

pub(super) static REPAIR: Repair = Repair {
    name: "column_vector",
    tier: Tier::One,
    switch: Switch::Policy,
    stage: Stage::Shape,
    lossy: false,
    when: "`[-1,k]` with a fixed k above 1 is declared, and exactly `[k,1]` was sent. With `column_vector: off`, it is refused.",
    example: Example {
        signature: "x:float[-1,128]",
        request: "x:float[128,1]",
        becomes: "x:float[1,128]",
        policy: "",
    },
    propose: Propose::Tensor(propose),
};

fn propose(case: &TensorCase<'_>) -> Proposal {
    let PartialShape::Known(declared) = &case.info.shape else { return Proposal::No };
    match decide(&case.descriptor.shape, declared) {
        Fit::One(shape) if case.policy.rules.contains(&REPAIR) => {
            Proposal::Becomes(case.descriptor.with_shape(shape))
        }
        _ => Proposal::No,
    }
}

fn decide(sent: &Shape, declared: &Shape) -> Fit {
    match (&declared[..], &sent[..]) {
        ([-1, width], [rows, 1]) if *width > 1 && rows == width => Fit::One(Shape::from([1, *width])),
        _ => Fit::None,
    }
}
