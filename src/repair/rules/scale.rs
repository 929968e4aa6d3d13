//! Multiplies numbers by a factor and adds an offset.
use crate::repair::{Example, Propose, Repair, Stage, Switch, Tier};

pub(in crate::repair) static REPAIR: Repair = Repair {
    name: "scale",
    tier: Tier::Three,
    switch: Switch::Transform("scale: {factor: 0.0039215686, offset: 0}"),
    stage: Stage::Transform,
    lossy: false,
    when: "The input has `scale: {factor: F, offset: O}`: each number becomes `x * F + O`, computed in float64 and rounded once. Both may be a list with one number for each feature of the last axis.",
    example: Example {
        signature: "x:float[-1,2]",
        request: "x:uint8[1,2]{0,255}",
        becomes: "x:float[1,2]{-1,1}",
        policy: "inputs: {x: {transform: [{scale: {factor: 0.00784313725490196, offset: -1}}]}}",
    },
    propose: Propose::Declared,
};
