//! Reads a vector sent for `[-1,-1]` as one row or as one row for each value, as configured.
use crate::repair::policy::Rank1;
use crate::repair::{Example, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier};
use crate::tensor::Shape;

pub(super) static REPAIR: Repair = Repair {
    name: "rank1_is",
    tier: Tier::Two,
    switch: Switch::Elsewhere("inputs: {NAME: {rank1_is: single_row}}"),
    stage: Stage::Shape,
    lossy: false,
    when: "`[-1,-1]` is declared and a vector was sent: `rank1_is: single_row` turns it into `[1,n]`, `rank1_is: one_per_row` into `[n,1]`.",
    example: Example {
        signature: "ids:int32[-1,-1]",
        request: "ids:int32[5]",
        becomes: "ids:int32[5,1]",
        policy: "inputs: {ids: {rank1_is: one_per_row}}",
    },
    propose: Propose::Tensor(propose),
};

fn propose(case: &TensorCase<'_>) -> Proposal {
    let configured = case.policy.input(&case.info.alias).and_then(|input| input.rank1_is);
    let (Some([-1, -1]), [size], Some(rank1)) =
        (case.info.shape.dims(), &case.descriptor.shape[..], configured)
    else {
        return Proposal::No;
    };
    let shape = match rank1 {
        Rank1::SingleRow => [1, *size],
        Rank1::OnePerRow => [*size, 1],
    };
    Proposal::Becomes(case.descriptor.with_shape(Shape::from(shape)))
}
