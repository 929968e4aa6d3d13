//! Drops inputs that the model does not have, if the operator allows it.
use crate::repair::{Example, NameCase, Naming, Propose, Repair, RuleKey, Stage, Switch, Tier, ValueKind};

pub(crate) static DROP_EXTRA: RuleKey = RuleKey {
    name: "drop_extra",
    help: "The inputs to drop if the signature does not have them.",
    sample: "[INPUT]",
    value: ValueKind::Inputs,
};

pub(super) static REPAIR: Repair = Repair {
    name: "drop_extra",
    tier: Tier::Two,
    switch: Switch::Rules(&DROP_EXTRA),
    stage: Stage::Names,
    lossy: false,
    when: "The sent key is not an input of the signature and is listed in `drop_extra`.",
    example: Example {
        signature: "x:float[-1]",
        request: "x:float[1] user_id:int64[1]",
        becomes: "x:float[1]",
        policy: "drop_extra: [user_id]",
    },
    propose: Propose::Names(propose),
};

fn propose(case: &NameCase<'_>) -> Naming {
    let listed = |index: &&usize| case.policy.values.has_input(&DROP_EXTRA, &case.view.inputs[**index].key);
    let dropped: Vec<usize> = case.unbound.iter().filter(listed).copied().collect();
    if dropped.is_empty() { Naming::No } else { Naming::Drop(dropped) }
}
