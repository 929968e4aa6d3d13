//! A vector for `[-1,-1]`: one row of n, or n rows of one, as the operator says.
use crate::repair::policy::Rank1;
use crate::repair::{Example, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier};
use crate::tensor::Shape;

pub static REPAIR: Repair = Repair {
    name: "rank1_is",
    tier: Tier::Two,
    switch: Switch::Elsewhere("inputs: {NAME: {rank1_is: single_row}}"),
    stage: Stage::Shape,
    lossy: false,
    when: "`[-1,-1]` is declared and a vector was sent: `rank1_is: single_row` makes `[1,n]` of it, `rank1_is: one_per_row` makes `[n,1]`.",
    example: Example {
        signature: "ids:int32[-1,-1]",
        request: "ids:int32[5]",
        becomes: "ids:int32[5,1]",
        policy: "inputs: {ids: {rank1_is: one_per_row}}",
    },
    propose: Propose::Tensor(propose),
};

fn propose(case: &TensorCase<'_>) -> Proposal {
    let said = case.policy.input(&case.info.alias).and_then(|input| input.rank1_is);
    let (Some([-1, -1]), [size], Some(rank1)) = (case.info.shape.dims(), &case.descriptor.shape[..], said)
    else {
        return Proposal::No;
    };
    let shape = match rank1 {
        Rank1::SingleRow => [1, *size],
        Rank1::OnePerRow => [*size, 1],
    };
    Proposal::Becomes(case.descriptor.with_shape(Shape::from(shape)))
}
