//! Splits a request with several fixed-size batches of rows into one call for each batch.
use crate::repair::{Calls, CallsCase, Example, Propose, Repair, Stage, Switch, Tier};

pub(super) static REPAIR: Repair = Repair {
    name: "fan_out",
    tier: Tier::Two,
    switch: Switch::On,
    stage: Stage::Rows,
    lossy: false,
    when: "Dim 0 of every input is declared as the same fixed k, and all inputs were sent with the same multiple of k rows. One call is made for every k rows, and the outputs are joined on dim 0. Does not apply if an output has no row dimension, or if more than 256 calls would be needed.",
    example: Example {
        signature: "x:float[2,3] -> y:float[2,1]",
        request: "x:float[6,3]",
        becomes: "x:float[6,3]",
        policy: "fan_out: on",
    },
    propose: Propose::Calls(propose),
};

fn propose(case: &CallsCase<'_>) -> Option<Calls> {
    let &CallsCase { declared, rows, .. } = case;
    let multiple = declared > 0 && rows > declared && rows % declared == 0;
    multiple.then_some(Calls::Split { rows, per_call: declared, whole: false })
}
