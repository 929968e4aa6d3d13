//! Moves the raw bytes of a string from `tensor_content`, where TensorFlow expects its own
//! encoding.
use crate::repair::{
    Encoding, Example, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier, ValueChange,
};
use crate::tensor::{DataType, ValueList};

pub(super) static REPAIR: Repair = Repair {
    name: "string_content",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Encoding,
    lossy: false,
    when: "A string tensor of one element has no `string_val`, and its `tensor_content` is not a valid TensorFlow string encoding. The bytes become the one string.",
    example: Example {
        signature: "image:string[-1]",
        request: "image:string[1]@tensor_content",
        becomes: "image:string[1]",
        policy: "",
    },
    propose: Propose::Tensor(propose),
};

fn propose(case: &TensorCase<'_>) -> Proposal {
    let raw = case.descriptor.dtype == DataType::STRING && case.descriptor.encoding == Encoding::Content;
    if !raw
        || case.descriptor.shape.elements() != Ok(1)
        || !case.tensor().lists().is_empty()
        || case.info.shape.rank().is_none()
    {
        return Proposal::No;
    }
    let mut after = case.descriptor.clone();
    (after.encoding, after.values) = (Encoding::List(ValueList::String), 1);
    Proposal::Changes(after, ValueChange::ContentToString)
}
