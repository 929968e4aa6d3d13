//! Moves the axes of a tensor to other places.
use crate::repair::{Example, Propose, Repair, Stage, Switch, Tier};

pub(in crate::repair) static REPAIR: Repair = Repair {
    name: "transpose",
    tier: Tier::Three,
    switch: Switch::Transform("transpose: [0, 2, 3, 1]"),
    stage: Stage::Transform,
    lossy: false,
    when: "The input has `transpose: [AXIS, ...]`: axis `i` of the result is the sent axis at place `i` of the list, as in NumPy. The shape is checked, and repaired, as it is before. A request whose shape only fits as it is after stays as it is.",
    example: Example {
        signature: "x:float[-1,1,2,3]",
        request: "x:float[1,3,1,2]{1,2,3,4,5,6}",
        becomes: "x:float[1,1,2,3]{1,3,5,2,4,6}",
        policy: "inputs: {x: {transform: [{transpose: [0, 2, 3, 1]}]}}",
    },
    propose: Propose::Declared,
};
