//! Casts to a dtype that has every value of the sent one, so nothing can be lost.
use crate::repair::{Encoding, Example, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier};
use crate::tensor::{Exactness, Relation, relation};

pub(super) static REPAIR: Repair = Repair {
    name: "cast_widen",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Dtype,
    lossy: false,
    when: "The declared dtype has every value of the sent dtype exactly, as in uint8 to float, int32 to int64, half to float. Integers of 8 or 16 bits for a float type are cast with the warning INTEGER_FOR_FLOAT, because the model may take them scaled (`small_ints`).",
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
    // Values in `tensor_content` are always valid. A list may hold malformed varints, or integers
    // out of the range of its dtype.
    if matches!(case.descriptor.encoding, Encoding::List(_))
        && let Err(problem) = case.check_cast(case.info.dtype, Exactness::Exact)
    {
        return Proposal::Fault(problem);
    }
    super::cast(case, Exactness::Exact)
}
