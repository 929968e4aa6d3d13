//! Limits numbers to a range.
use crate::repair::{Example, Propose, Repair, Stage, Switch, Tier};

pub(in crate::repair) static REPAIR: Repair = Repair {
    name: "clip",
    tier: Tier::Three,
    switch: Switch::Transform("clip: [0, 1]"),
    stage: Stage::Transform,
    lossy: true,
    when: "The input has `clip: [LOW, HIGH]`: smaller numbers become LOW and larger ones HIGH. NaN stays NaN.",
    example: Example {
        signature: "x:float[-1,3]",
        request: "x:float[1,3]{-4,0.5,9}",
        becomes: "x:float[1,3]{0,0.5,1}",
        policy: "inputs: {x: {transform: [{clip: [0, 1]}]}}",
    },
    propose: Propose::Declared,
};
