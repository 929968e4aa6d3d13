//! More rows than the operator wants in one call: several calls, the answers joined in order.
use crate::repair::{Example, Propose, Repair, Stage, Switch, Tier};

pub static REPAIR: Repair = Repair {
    name: "split_oversize",
    tier: Tier::Two,
    switch: Switch::On,
    stage: Stage::Calls,
    lossy: false,
    when: "Every input declares dim 0 as -1, and more than `max_rows` rows were sent: calls of at most `max_rows` rows each, their outputs joined on dim 0. A request that would be more than 256 calls is sent as it is.",
    example: Example {
        signature: "x:float[-1,3] -> y:float[-1,1]",
        request: "x:float[6,3]",
        becomes: "x:float[6,3]",
        policy: "split_oversize: on",
    },
    propose: Propose::Calls,
};
