//! The declared dtype is narrower, but each value that was sent exists in it.
use crate::repair::{Example, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier};
use crate::tensor::{Exactness, Relation, relation};

pub static REPAIR: Repair = Repair {
    name: "cast_checked",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Dtype,
    lossy: false,
    when: "Integers into narrower integers or into floats, floats into narrower floats: every single value is checked to be exact, or the request is refused with the first one that is not. -1 never becomes 4294967295.",
    example: Example {
        signature: "ids:int32[-1]",
        request: "ids:int64[3]",
        becomes: "ids:int32[3]",
        policy: "",
    },
    propose: Propose::Tensor(propose),
};

fn propose(case: &TensorCase<'_>) -> Proposal {
    if relation(case.descriptor.dtype, case.info.dtype) != Some(Relation::Narrows) {
        return Proposal::No;
    }
    super::checked(case, Exactness::Exact)
}
