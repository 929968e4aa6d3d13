//! A flag or a rate of unknown rank, sent as a vector of one, where the operator knows that a
//! scalar is meant.
use crate::repair::{Example, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier};
use crate::tensor::{PartialShape, Shape};

pub static REPAIR: Repair = Repair {
    name: "scalar_inputs",
    tier: Tier::Two,
    switch: Switch::Elsewhere("inputs: {NAME: {scalar: true}}"),
    stage: Stage::Shape,
    lossy: false,
    when: "The input's rank is unknown, the operator says `scalar: true`, and one element was sent.",
    example: Example {
        signature: "training:bool",
        request: "training:bool[1]",
        becomes: "training:bool[]",
        policy: "inputs: {training: {scalar: true}}",
    },
    propose: Propose::Tensor(propose),
};

fn propose(case: &TensorCase<'_>) -> Proposal {
    let named = case.policy.input(&case.info.alias).is_some_and(|input| input.scalar);
    if named && case.info.shape == PartialShape::UnknownRank && case.descriptor.shape.elements() == Ok(1) {
        return Proposal::Becomes(case.descriptor.with_shape(Shape::scalar()));
    }
    Proposal::No
}
