//! Renames inputs from a table of the operator, such as names of an earlier export.
use crate::repair::{
    Example, NameCase, Naming, Problem, Propose, Reason, Repair, RuleKey, Stage, Switch, Tier, ValueKind,
};

pub(crate) static ALIASES: RuleKey = RuleKey {
    name: "aliases",
    help: "Input names that clients send, and the declared inputs that they mean (rule `aliases`).",
    sample: "{SENT: DECLARED}",
    value: ValueKind::Renames,
};

pub(super) static REPAIR: Repair = Repair {
    name: "aliases",
    tier: Tier::Two,
    switch: Switch::Signature(&ALIASES),
    stage: Stage::Names,
    lossy: false,
    when: "The sent key is listed in `aliases` of the signature, and the input that it stands for was not sent under its own key.",
    example: Example {
        signature: "a:float[-1] b:float[-1]",
        request: "input_3:float[1] b:float[1]",
        becomes: "a:float[1] b:float[1]",
        policy: "aliases: {input_3: a}",
    },
    propose: Propose::Names(propose),
};

fn propose(case: &NameCase<'_>) -> Naming {
    let mut renames: Vec<(usize, String)> = Vec::new();
    for index in case.unbound {
        let key = &case.view.inputs[*index].key;
        let Some(alias) = case.policy.values.renamed(&ALIASES, key) else { continue };
        if !case.missing.iter().any(|info| info.alias == *alias) {
            continue;
        }
        if let Some((first, _)) = renames.iter().find(|(_, taken)| taken == alias) {
            let what = format!("sent as '{}' and as '{key}'", case.view.inputs[*first].key);
            return Naming::Ambiguous(Problem::new(Reason::NameAmbiguous, alias, what));
        }
        renames.push((*index, alias.clone()));
    }
    if renames.is_empty() { Naming::No } else { Naming::Rename(renames) }
}
