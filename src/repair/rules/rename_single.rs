//! Renames the only sent input to the only declared one, if it fits.
use crate::repair::{Example, NameCase, Naming, Propose, Repair, Stage, Switch, Tier, tensor};

pub(super) static REPAIR: Repair = Repair {
    name: "rename_single",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Names,
    lossy: false,
    when: "One input is declared, and one was sent under another key. No other signature of the model has that key, and the input conforms or needs only repairs that are switched on.",
    example: Example {
        signature: "inputs:float[-1,2]",
        request: "images:float[1,2]",
        becomes: "inputs:float[1,2]",
        policy: "",
    },
    propose: Propose::Names(propose),
};

fn propose(case: &NameCase<'_>) -> Naming {
    let ([index], [info]) = (case.unbound, case.missing) else { return Naming::No };
    if case.signature.inputs.len() != 1 || case.view.inputs.len() != 1 {
        return Naming::No;
    }
    // If another signature has the name, the request was probably meant for that signature.
    let key = &case.view.inputs[*index].key;
    if case.signatures.servable().any(|other| other.name != case.signature.name && other.input(key).is_some())
    {
        return Naming::No;
    }
    let plan = tensor::plan(case.message, &case.view.inputs[*index], *index, info, case.policy, case.limits);
    if plan.problems.is_empty() { Naming::Rename(vec![(*index, info.alias.clone())]) } else { Naming::No }
}
