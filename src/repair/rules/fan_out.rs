//! More rows than a model of a fixed batch takes: one call for each batch, the answers joined.
use crate::repair::{Example, Propose, Repair, Stage, Switch, Tier};

pub static REPAIR: Repair = Repair {
    name: "fan_out",
    tier: Tier::Two,
    switch: Switch::On,
    stage: Stage::Calls,
    lossy: false,
    when: "Every input's dim 0 is declared fixed at the same k, and all were sent with the same multiple of k rows: that many calls, their outputs joined on dim 0. An output without a row dimension makes it refuse, as do more than 256 calls.",
    example: Example {
        signature: "x:float[2,3] -> y:float[2,1]",
        request: "x:float[6,3]",
        becomes: "x:float[6,3]",
        policy: "fan_out: on",
    },
    propose: Propose::Calls,
};
