//! Pads a request that has fewer rows than the model's fixed batch, and cuts the response back.
use crate::repair::calls::with_rows;
use crate::repair::{Calls, CallsCase, Example, Propose, Repair, Stage, Switch, Tier};
use crate::tensor::Shape;

pub(super) static REPAIR: Repair = Repair {
    name: "pad_static_batch",
    tier: Tier::Two,
    switch: Switch::On,
    stage: Stage::Rows,
    lossy: false,
    when: "Dim 0 of every input is declared as the same fixed k from 2 to 65536, and all inputs were sent with the same number of rows, at least 1 and below k. The last row is repeated up to k rows, and the response is cut back.",
    example: Example {
        signature: "x:float[4,3] -> y:float[4,1]",
        request: "x:float[3,3]",
        becomes: "x:float[4,3]",
        policy: "pad_static_batch: on",
    },
    propose: Propose::Calls(propose),
};

/// The largest batch that a request is padded to. Padding adds one row at a time.
const MAX_ROWS: i64 = 65_536;
/// The most elements of a padded batch: padding must not make a large message of a small one.
const MAX_ELEMENTS: u64 = 1 << 28;

fn propose(case: &CallsCase<'_>) -> Option<Calls> {
    let &CallsCase { declared, rows, .. } = case;
    let short = (2..=MAX_ROWS).contains(&declared) && (1..declared).contains(&rows);
    let fits = |shape: &Shape| {
        let elements = with_rows(shape, declared).elements();
        elements.is_ok_and(|elements| elements <= case.limits.max_elements.min(MAX_ELEMENTS))
    };
    (short && case.batched().all(|(_, shape)| fits(shape))).then_some(Calls::Pad { rows, to: declared })
}
