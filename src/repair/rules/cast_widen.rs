//! Every value of the sent dtype exists in the declared one: the cast cannot lose anything.
use crate::repair::{Encoding, Example, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier};
use crate::tensor::{Exactness, Relation, relation};

pub static REPAIR: Repair = Repair {
    name: "cast_widen",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Dtype,
    lossy: false,
    when: "Every value of the sent dtype is exact in the declared one, such as uint8 to float, int32 to int64, half to float.",
    example: Example {
        signature: "x:float[-1,2]",
        request: "x:uint8[1,2]",
        becomes: "x:float[1,2]",
        policy: "",
    },
    propose: Propose::Tensor(propose),
};

fn propose(case: &TensorCase<'_>) -> Proposal {
    if relation(case.descriptor.dtype, case.info.dtype) != Some(Relation::Widens) {
        return Proposal::No;
    }
    // Content needs no look; a list may hold varints that no decoder takes, or integers beyond its
    // small dtype.
    if matches!(case.descriptor.encoding, Encoding::List(_))
        && let Err(problem) = case.check_cast(case.info.dtype, Exactness::Exact)
    {
        return Proposal::Fault(problem);
    }
    super::cast(case, Exactness::Exact)
}
