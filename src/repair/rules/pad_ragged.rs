//! Pads rows that are shorter than the declared length with a value of the operator.
use crate::repair::pad::has_room;
use crate::repair::{
    Encoding, Example, Proposal, Propose, Repair, RuleKey, Stage, Switch, TensorCase, Tier, ValueChange,
    ValueKind, notation,
};
use crate::tensor::Shape;

pub(crate) static PAD: RuleKey = RuleKey {
    name: "pad",
    help: "Fills up rows that are too short (rule `pad_ragged`).",
    sample: "{value: 0}",
    value: ValueKind::Section { keys: &[&PAD_VALUE, &PAD_MASK], required: &["value"] },
};
pub(crate) static PAD_VALUE: RuleKey =
    RuleKey { name: "value", help: "The value to fill up with.", sample: "0", value: ValueKind::Element };
pub(crate) static PAD_MASK: RuleKey = RuleKey {
    name: "mask",
    help: "The input that marks real values with 1 and filled-up ones with 0.",
    sample: "INPUT",
    value: ValueKind::Input,
};

pub(super) static REPAIR: Repair = Repair {
    name: "pad_ragged",
    tier: Tier::Two,
    switch: Switch::Input(&PAD),
    stage: Stage::Shape,
    lossy: false,
    when: "The ranks are equal, and inner sizes are below the declared fixed ones: each row is padded at the end with `pad.value`. If `pad.mask` names an input that the client did not send, that input is added: 1 for a sent value, 0 for padding.",
    example: Example {
        signature: "ids:int32[-1,8]",
        request: "ids:int32[2,5]",
        becomes: "ids:int32[2,8]",
        policy: "inputs: {ids: {pad: {value: 0}}}",
    },
    propose: Propose::Tensor(propose),
};

fn propose(case: &TensorCase<'_>) -> Proposal {
    let Some(pad) = case.policy.input(&case.info.alias).and_then(|input| input.section(&PAD)) else {
        return Proposal::No;
    };
    let (Some([rows, inner @ ..]), [first, sent @ ..]) = (case.info.shape.dims(), &case.descriptor.shape[..])
    else {
        return Proposal::No;
    };
    let shorter =
        sent.len() == inner.len() && inner.iter().zip(sent).all(|(want, have)| *want == -1 || have <= want);
    let value = pad.literal(&PAD_VALUE).and_then(|value| notation::element(case.info.dtype, value).ok());
    let Some(value) = value else { return Proposal::No };
    if !shorter || case.info.dtype.size().is_none() || !(*rows == -1 || rows == first) {
        return Proposal::No;
    }
    let shape: Shape = [*first]
        .into_iter()
        .chain(inner.iter().zip(sent).map(|(want, have)| if *want == -1 { *have } else { *want }))
        .collect();
    let fits = |elements: &u64| has_room(*elements, value.len(), case.limits.max_elements);
    let elements = shape.elements().ok().filter(fits);
    let Some(elements) = elements else { return Proposal::No };
    let mut after = case.descriptor.with_shape(shape);
    (after.encoding, after.values) = (Encoding::Content, elements);
    Proposal::Changes(after, ValueChange::Pad(value))
}
