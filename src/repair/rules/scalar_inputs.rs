//! Turns a vector of one value into a scalar, for inputs of unknown rank that the operator declares
//! as scalars.
use crate::repair::{
    Example, Proposal, Propose, Repair, RuleKey, Stage, Switch, TensorCase, Tier, ValueKind,
};
use crate::tensor::{PartialShape, Shape};

pub(crate) static SCALAR: RuleKey = RuleKey {
    name: "scalar",
    help: "The input is a scalar although the signature does not declare its rank (rule `scalar_inputs`).",
    sample: "on",
    value: ValueKind::OnOff,
};

pub(super) static REPAIR: Repair = Repair {
    name: "scalar_inputs",
    tier: Tier::Two,
    switch: Switch::Input(&SCALAR),
    stage: Stage::Shape,
    lossy: false,
    when: "The input's rank is unknown, the operator configured `scalar: true`, and one element was sent.",
    example: Example {
        signature: "training:bool",
        request: "training:bool[1]",
        becomes: "training:bool[]",
        policy: "inputs: {training: {scalar: true}}",
    },
    propose: Propose::Tensor(propose),
};

fn propose(case: &TensorCase<'_>) -> Proposal {
    let named = case.policy.input(&case.info.alias).is_some_and(|input| input.is_on(&SCALAR));
    if named && case.info.shape == PartialShape::UnknownRank && case.descriptor.shape.elements() == Ok(1) {
        return Proposal::Becomes(case.descriptor.with_shape(Shape::scalar()));
    }
    Proposal::No
}
