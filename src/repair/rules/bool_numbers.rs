//! Casts 0 and 1 to false and true, and the reverse.
use crate::repair::{Example, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier};
use crate::tensor::{Exactness, Relation, relation};

pub(in crate::repair) static REPAIR: Repair = Repair {
    name: "bool_numbers",
    tier: Tier::Two,
    switch: Switch::On,
    stage: Stage::Dtype,
    lossy: false,
    when: "bool was sent where a number is declared (false is 0, true is 1), or numbers that are all 0 or 1 where bool is declared.",
    example: Example {
        signature: "flag:bool[-1]",
        request: "flag:int32[2]",
        becomes: "flag:bool[2]",
        policy: "bool_numbers: on",
    },
    propose: Propose::Tensor(propose),
};

fn propose(case: &TensorCase<'_>) -> Proposal {
    if !matches!(
        relation(case.descriptor.dtype, case.info.dtype),
        Some(Relation::BoolToNumber | Relation::NumberToBool)
    ) {
        return Proposal::No;
    }
    super::checked(case, Exactness::Exact)
}
