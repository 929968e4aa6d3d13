//! Reads the bytes of one dtype as another of the same width.
use crate::repair::{Example, Propose, Repair, Stage, Switch, Tier};

pub(in crate::repair) static REPAIR: Repair = Repair {
    name: "relabel_dtype",
    tier: Tier::Three,
    switch: Switch::Transform("relabel_dtype: {from: uint16, to: half}"),
    stage: Stage::Transform,
    lossy: false,
    when: "The input has `relabel_dtype: {from: D, to: E}` and was sent as D: the same bytes are read as E, which has the same width. For clients that have no name for a dtype, such as float16 in languages without it. Other requests stay as they are.",
    example: Example {
        signature: "x:half[-1,2]",
        request: "x:uint16[1,2]{15360,49152}",
        becomes: "x:half[1,2]{1,-2}",
        policy: "inputs: {x: {transform: [{relabel_dtype: {from: uint16, to: half}}]}}",
    },
    propose: Propose::Declared,
};
