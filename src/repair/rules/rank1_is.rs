//! Reads a vector sent for `[-1,-1]` as one row or as one row for each value, as configured.
use crate::repair::{
    Example, Proposal, Propose, Repair, RuleKey, Stage, Switch, TensorCase, Tier, ValueKind,
};
use crate::tensor::Shape;

pub(crate) static RANK1_IS: RuleKey = RuleKey {
    name: "rank1_is",
    help: "How to read a vector where `[-1,-1]` is declared: as one row, or as one row per value (rule `rank1_is`).",
    sample: SINGLE_ROW,
    value: ValueKind::Words(&[SINGLE_ROW, ONE_PER_ROW]),
};
const SINGLE_ROW: &str = "single_row";
const ONE_PER_ROW: &str = "one_per_row";

pub(super) static REPAIR: Repair = Repair {
    name: "rank1_is",
    tier: Tier::Two,
    switch: Switch::Input(&RANK1_IS),
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
    let configured = case.policy.input(&case.info.alias).and_then(|input| input.text(&RANK1_IS));
    let (Some([-1, -1]), [size], Some(word)) =
        (case.info.shape.dims(), &case.descriptor.shape[..], configured)
    else {
        return Proposal::No;
    };
    let shape = match word {
        SINGLE_ROW => [1, *size],
        ONE_PER_ROW => [*size, 1],
        _ => return Proposal::No,
    };
    Proposal::Becomes(case.descriptor.with_shape(Shape::from(shape)))
}
