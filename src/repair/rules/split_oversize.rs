//! Splits a request with more rows than the operator allows into several calls.
use crate::repair::{Calls, CallsCase, Example, Propose, Repair, Stage, Switch, Tier};

pub(in crate::repair) static REPAIR: Repair = Repair {
    name: "split_oversize",
    tier: Tier::Two,
    switch: Switch::On,
    stage: Stage::Rows,
    lossy: false,
    when: "Every input declares dim 0 as -1, and more than `max_rows` rows were sent. Calls of at most `max_rows` rows are made, and the outputs are joined on dim 0. A request that would need more than 256 calls is sent unchanged. With `batching: {enabled: on}`, a request with more rows than a run may have is split in mode `repair` even if this rule is off.",
    example: Example {
        signature: "x:float[-1,3] -> y:float[-1,1]",
        request: "x:float[6,3]",
        becomes: "x:float[6,3]",
        policy: "split_oversize: on",
    },
    propose: Propose::Calls(propose),
};

fn propose(case: &CallsCase<'_>) -> Option<Calls> {
    let batching = &case.policy.batching;
    let max_rows = if batching.enabled { batching.rows_per_run() } else { batching.max_rows };
    let max_rows = i64::try_from(max_rows).unwrap_or(i64::MAX);
    let oversize = case.declared == -1 && max_rows > 0 && case.rows > max_rows;
    oversize.then_some(Calls::Split { rows: case.rows, per_call: max_rows, whole: true })
}
