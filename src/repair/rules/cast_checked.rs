//! Casts to a narrower dtype if it has every value that was sent.
use crate::repair::{Example, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier};
use crate::tensor::{DataType, Exactness, Relation, relation};

pub(super) static REPAIR: Repair = Repair {
    name: "cast_checked",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Dtype,
    lossy: false,
    when: "Integers are cast to narrower integers or to floats, and floats to narrower floats. Every value is checked; the request is refused if the declared dtype does not have it exactly. -1 never becomes 4294967295.",
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
    match super::checked(case, Exactness::Exact) {
        Proposal::Fault(problem) if !case.policy.round_f64 && case.descriptor.dtype == DataType::DOUBLE => {
            Proposal::Fault(problem.hint("the operator can set `round_f64: allow`"))
        }
        proposal => proposal,
    }
}
