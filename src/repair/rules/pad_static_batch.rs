//! Fewer rows than a model of a fixed batch takes: copies of the last row, cut from the answer
//! again.
use crate::repair::{Example, Propose, Repair, Stage, Switch, Tier};

pub static REPAIR: Repair = Repair {
    name: "pad_static_batch",
    tier: Tier::Two,
    switch: Switch::On,
    stage: Stage::Calls,
    lossy: false,
    when: "Every input's dim 0 is declared fixed at the same k from 2 to 65536, and all were sent with the same number of rows, at least 1 and below k: the last row is repeated up to k, and the answer is cut back.",
    example: Example {
        signature: "x:float[4,3] -> y:float[4,1]",
        request: "x:float[3,3]",
        becomes: "x:float[4,3]",
        policy: "pad_static_batch: on",
    },
    propose: Propose::Calls,
};
