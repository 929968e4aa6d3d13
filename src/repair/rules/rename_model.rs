//! Sends the requests for one model to another.
use crate::repair::{Example, Propose, Repair, Stage, Switch, Tier};

pub(in crate::repair) static REPAIR: Repair = Repair {
    name: "rename_model",
    tier: Tier::Three,
    switch: Switch::Top("rename_model: {OLD: NEW}"),
    stage: Stage::Transform,
    lossy: false,
    when: "The model that is asked for is OLD in `rename_model: {OLD: NEW}` at the top of the configuration: the request is for NEW, is checked by its signatures and policy, and is sent so. One name leads to one other, never further. Requests of Predict, Classify, Regress and MultiInference are renamed; those for the status or metadata of a model are not.",
    example: Example {
        signature: "x:float[-1,2]",
        request: "x:float[1,2]",
        becomes: "x:float[1,2]",
        policy: "rename_model: {old: m}",
    },
    propose: Propose::Declared,
};
