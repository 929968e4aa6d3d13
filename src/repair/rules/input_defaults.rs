//! Adds an input that clients omit, with a value of the operator.
use super::SCALAR;
use crate::repair::encoding::claims_too_much;
use crate::repair::{
    Descriptor, Encoding, Example, MissingCase, Propose, Repair, RuleKey, Stage, Switch, Tier, ValueKind,
};
use crate::tensor::Shape;

pub(crate) static DEFAULT: RuleKey = RuleKey {
    name: "default",
    help: "The value to send when the request lacks the input (rule `input_defaults`).",
    sample: "VALUE",
    value: ValueKind::Element,
};

pub(super) static REPAIR: Repair = Repair {
    name: "input_defaults",
    tier: Tier::Two,
    switch: Switch::Input(&DEFAULT),
    stage: Stage::Missing,
    lossy: false,
    when: "A declared input was not sent and has a `default`. It is sent as a scalar (`scalar: true`, or declared `[]`), in its fixed shape, or with as many rows as the other inputs.",
    example: Example {
        signature: "x:float[-1,2] keep_prob:float[]",
        request: "x:float[1,2]",
        becomes: "x:float[1,2] keep_prob:float[]",
        policy: "inputs: {keep_prob: {default: 1.0}}",
    },
    propose: Propose::Missing(propose),
};

fn propose(case: &MissingCase<'_>) -> Option<Descriptor> {
    let input = case.policy.input(&case.info.alias)?;
    input.literal(&DEFAULT)?;
    let shape = match case.info.shape.dims() {
        // A declared rank takes precedence over the switch.
        _ if input.is_on(&SCALAR) && case.info.shape.accepts(&Shape::scalar()) => Shape::scalar(),
        None => return None,
        Some([-1, inner @ ..]) if inner.iter().all(|size| *size >= 0) => {
            [case.rows?].into_iter().chain(inner.iter().copied()).collect()
        }
        Some(dims) if dims.iter().all(|size| *size >= 0) => Shape::from(dims),
        Some(_) => return None,
    };
    let elements = shape.elements().ok().filter(|elements| *elements <= case.limits.max_elements)?;
    let dtype = case.info.dtype;
    // The one value fills as many rows as the client sent, and the rows may be empty.
    if claims_too_much(&shape, dtype.info()?, "", case.limits, || 1).is_some() {
        return None;
    }
    let encoding = Encoding::List(dtype.info()?.list);
    // TensorFlow fills the tensor with the one value; an empty tensor must have none.
    Some(Descriptor { key: case.info.alias.clone(), dtype, shape, encoding, values: elements.min(1) })
}
