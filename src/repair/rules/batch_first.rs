//! Adds the batch dimension to a single example whose inner sizes are open. The one rule of tier 1
//! that assumes something.
use super::add_batch_dim::{batch_in_front, elsewhere};
use super::ambiguous;
use crate::repair::{Example, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier};
use crate::tensor::PartialShape;

pub(super) static REPAIR: Repair = Repair {
    name: "batch_first",
    tier: Tier::One,
    switch: Switch::Policy,
    stage: Stage::Shape,
    lossy: false,
    when: "Like `add_batch_dim`, but a 1 would also conform at an inner axis that is declared -1. The rule assumes that the batch axis is missing. With `batch_first: off`, such a request is refused as SHAPE_AMBIGUOUS.",
    example: Example {
        signature: "image:float[-1,-1,-1,3]",
        request: "image:float[48,64,3]",
        becomes: "image:float[1,48,64,3]",
        policy: "",
    },
    propose: Propose::Tensor(propose),
};

fn propose(case: &TensorCase<'_>) -> Proposal {
    let PartialShape::Known(declared) = &case.info.shape else { return Proposal::No };
    let Some(front) = batch_in_front(&case.descriptor.shape, declared) else { return Proposal::No };
    // Only an axis that is declared -1 can be ruled out. If a declared 1 could be the new axis too,
    // nothing tells the two apart.
    let competing = elsewhere(&case.descriptor.shape, declared, &front).collect::<Vec<_>>();
    let by_a_declared_one = |shape: &crate::tensor::Shape| {
        competing.iter().any(|(axis, other)| other == shape && declared[*axis] == 1)
    };
    match competing.first() {
        None => Proposal::No,
        Some((_, other))
            if !case.policy.rules.contains(&REPAIR)
                || competing.iter().any(|(_, shape)| by_a_declared_one(shape)) =>
        {
            Proposal::Fault(ambiguous(case, &front, other))
        }
        Some(_) => Proposal::Becomes(case.descriptor.with_shape(front)),
    }
}
