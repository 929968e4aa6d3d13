//! Moves values to the list of their dtype; in any other list, TensorFlow ignores them and reads
//! zeros.
use crate::repair::{
    Encoding, Example, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier, ValueChange,
};
use crate::tensor::{Exactness, Relation, relation};

pub(super) static REPAIR: Repair = Repair {
    name: "move_values",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Encoding,
    lossy: false,
    when: "The values are in a numeric `*_val` field that does not belong to the dtype, and in no other field. There must be one for each element of the shape, and the dtype must have each value exactly.",
    example: Example {
        signature: "x:float[-1,2]",
        request: "x:float[1,2]@double_val",
        becomes: "x:float[1,2]",
        policy: "",
    },
    propose: Propose::Tensor(propose),
};

fn propose(case: &TensorCase<'_>) -> Proposal {
    let Encoding::List(list) = case.descriptor.encoding else { return Proposal::No };
    let Some(dtype) = case.descriptor.dtype.info() else { return Proposal::No };
    let lists = case.tensor().lists();
    let native = list.native().filter(|_| dtype.list != list && lists.len() == 1);
    let Some(native) = native else { return Proposal::No };
    if !matches!(relation(native, case.descriptor.dtype), Some(Relation::Widens | Relation::Narrows))
        || case.descriptor.shape.elements() != Ok(case.descriptor.values)
        || case.descriptor.values == 0
        || case.descriptor.values > case.limits.max_elements
        || case.info.shape.rank().is_none()
    {
        return Proposal::No;
    }
    if let Err(problem) = case.check_cast(case.descriptor.dtype, Exactness::Exact) {
        return Proposal::Fault(problem);
    }
    let mut after = case.descriptor.clone();
    after.encoding = Encoding::List(dtype.list);
    Proposal::Changes(after, ValueChange::Cast(Exactness::Exact))
}
