//! Writes text in lower case.
use crate::repair::{Example, Propose, Repair, Stage, Switch, Tier};

pub(in crate::repair) static REPAIR: Repair = Repair {
    name: "lowercase",
    tier: Tier::Three,
    switch: Switch::Transform("lowercase: on"),
    stage: Stage::Transform,
    lossy: true,
    when: "The input has `lowercase: on`: each string is UTF-8 text and becomes lower case, by the rules of Unicode. If one of them is not UTF-8, all stay as they are, with a warning.",
    example: Example {
        signature: "text:string[-1]",
        request: "text:string[2]{Straße,ÄRGER}",
        becomes: "text:string[2]{straße,ärger}",
        policy: "inputs: {text: {transform: [{lowercase: on}]}}",
    },
    propose: Propose::Declared,
};
