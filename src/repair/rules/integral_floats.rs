//! Casts whole numbers that were sent as floats to integers: 2.0 is 2.
use crate::repair::{Example, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier};
use crate::tensor::{Exactness, Relation, relation};

pub(in crate::repair) static REPAIR: Repair = Repair {
    name: "integral_floats",
    tier: Tier::Two,
    switch: Switch::On,
    stage: Stage::Dtype,
    lossy: false,
    when: "A float dtype was sent where an integer dtype is declared, and every value is whole and in range. NaN and infinities are refused.",
    example: Example {
        signature: "ids:int64[-1]",
        request: "ids:float[2]",
        becomes: "ids:int64[2]",
        policy: "integral_floats: on",
    },
    propose: Propose::Tensor(propose),
};

fn propose(case: &TensorCase<'_>) -> Proposal {
    if !matches!(relation(case.descriptor.dtype, case.info.dtype), Some(Relation::FloatToInt)) {
        return Proposal::No;
    }
    super::checked(case, Exactness::Exact)
}
